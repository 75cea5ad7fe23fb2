output "launch_templates" {
  description = "ID, ARN, name and version of the launch template of each pool."
  value       = module.workers.launch_templates
}

output "subnets" {
  description = "IDs of the private subnets by availability zone."
  value       = module.network.private_subnets
}

output "subnet_arns" {
  description = "ARNs of the private subnets."
  value       = module.network.private_subnet_arns
}

output "security_group_arn" {
  description = "ARN of the workers' security group."
  value       = module.workers.security_group_arn
}

output "worker_role_arn" {
  description = "ARN of the workers' role."
  value       = module.workers.role_arn
}
