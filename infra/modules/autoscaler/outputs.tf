output "role_arn" {
  description = "ARN of the autoscaler's role."
  value       = module.host.role_arn
}

output "policy" {
  description = "What the autoscaler may do, as JSON; tests read it."
  value       = data.aws_iam_policy_document.fleet.json
}
