output "coordinator_address" {
  description = "Host and port of the coordinators' tunnel, inside the fleet's networks."
  value       = module.coordinator.address
}

output "public_address" {
  description = "Host and port of the tunnel for clients outside; null unless `endpoint_cidrs` asks for it."
  value       = module.coordinator.public_address
}

output "operator_secret_arn" {
  description = "Secret with the key of people and of clients outside."
  value       = module.coordinator.tunnel_secret_arns["operator"]
}

output "bucket" {
  description = "Bucket whose folder weights/ holds the models."
  value       = module.artifacts.bucket
}

output "topic_arn" {
  description = "Topic of alerts, alarms and budgets."
  value       = module.observability.topic_arn
}

output "grafana" {
  description = "Address of Grafana; null if there is none."
  value       = module.observability.grafana
}

output "launch_templates" {
  description = "Launch template of each pool, by region."
  value = {
    for index, fleet in local.fleets : local.regions[index] => {
      for pool, template in fleet.launch_templates : pool => { id = template.id, version = template.version }
    }
  }
}

output "autoscaler_policy" {
  description = "What the autoscaler may do, as JSON."
  value       = module.autoscaler.policy
}

output "provider_toml" {
  description = "The part of fleet.toml that says what machines are launched from. The copy that machines read has it already; `stoker plan` and `stoker check` on other machines may want it."
  value       = local.provider_toml
}

output "env" {
  description = "For a shell: what `stoker` and the AWS command line need to reach the fleet."
  value       = local.env
}

output "safety" {
  description = "What keeps accepted jobs from being lost, as it is: for people who check, and for tests."
  value = {
    store_protected   = module.store.safety.deletion_protection
    store_standby     = module.store.safety.multi_az
    store_backup_days = module.store.safety.backup_days
    store_encrypted   = module.store.safety.encrypted
    store_snapshot    = module.store.safety.final_snapshot
    broker_nodes      = module.broker.nodes
    coordinators      = var.coordinator.instances
    way_in_protected  = module.coordinator.deletion_protection
    bucket_kept       = var.deletion_protection
    machines_proven   = lookup(local.identity_settings, "BOOT_IDENTITY_ACCOUNT", null)
    budget_alerts     = module.budget.alerts
  }
}
