output "coordinator_address" {
  description = "Host and port of the coordinators' tunnel, inside the fleet's networks."
  value       = module.fleet.coordinator_address
}

output "public_address" {
  description = "Host and port of the tunnel for clients outside; null unless `endpoint_cidrs` asks for it."
  value       = module.fleet.public_address
}

output "provider_toml" {
  description = "The part of fleet.toml that Terraform has added to the copy that machines read."
  value       = module.fleet.provider_toml
}

output "env" {
  description = "For a shell: `eval \"$(terraform output -raw env)\"`, then infra/bin/connect."
  value       = module.fleet.env
}

output "bucket" {
  description = "Bucket whose folder weights/ holds the models."
  value       = module.fleet.bucket
}

output "launch_templates" {
  description = "Launch template of each pool, by region."
  value       = module.fleet.launch_templates
}

output "grafana" {
  description = "Address of Grafana; null if there is none."
  value       = module.fleet.grafana
}

output "autoscaler_policy" {
  description = "What the autoscaler may do, as JSON."
  value       = module.fleet.autoscaler_policy
}

output "safety" {
  description = "What keeps accepted jobs from being lost in this environment."
  value       = module.fleet.safety
}
