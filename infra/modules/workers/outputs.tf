output "launch_templates" {
  description = "ID, ARN, name and version of the launch template of each pool."
  value       = module.host.launch_templates
}

output "role_arn" {
  description = "ARN of the workers' role, which the autoscaler passes on."
  value       = module.host.role_arn
}

output "security_group_id" {
  description = "ID of the workers' security group."
  value       = aws_security_group.this.id
}

output "security_group_arn" {
  description = "ARN of the workers' security group."
  value       = aws_security_group.this.arn
}
