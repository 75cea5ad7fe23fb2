output "secret_arn" {
  description = "Secret with the broker's URI."
  value       = aws_secretsmanager_secret.uri.arn
}

output "broker_name" {
  description = "Name of the broker in CloudWatch, at Amazon MQ; null for a cluster of one's own."
  value       = local.managed ? aws_mq_broker.this[0].broker_name : null
}

output "security_group_id" {
  description = "ID of the broker's security group."
  value       = aws_security_group.this.id
}

output "nodes" {
  description = "Nodes of the broker."
  value       = !local.managed ? 3 : aws_mq_broker.this[0].deployment_mode == "CLUSTER_MULTI_AZ" ? 3 : 1
}
