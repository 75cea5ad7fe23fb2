output "address" {
  description = "Host and port of the tunnel, inside the fleet's networks."
  value       = "${aws_lb.this["internal"].dns_name}:${local.tunnel_port}"
}

output "public_address" {
  description = "Host and port of the tunnel for clients outside; null unless there is a public endpoint."
  value       = length(var.endpoint_cidrs) > 0 ? "${aws_lb.this["public"].dns_name}:${local.tunnel_port}" : null
}

output "port" {
  description = "Port of the tunnel."
  value       = local.tunnel_port
}

output "tunnel_secret_arns" {
  description = "Secrets with the key of each party: `worker`, `autoscaler` and `operator`."
  value       = { for party, secret in aws_secretsmanager_secret.tunnel : party => secret.arn }
}

output "join_secret_arn" {
  description = "Secret with the token with which workers join the fleet."
  value       = aws_secretsmanager_secret.token["join"].arn
}

output "token_secret_arns" {
  description = "Secrets with the tokens of those who change the fleet: `autoscaler` and `operator`."
  value       = { for bearer, secret in aws_secretsmanager_secret.token : bearer => secret.arn if bearer != "join" }
}

output "security_group_id" {
  description = "ID of the coordinators' security group."
  value       = aws_security_group.coordinator.id
}

output "target_group" {
  description = "Name of the load balancer's targets in CloudWatch."
  value       = aws_lb_target_group.this["internal"].arn_suffix
}

output "load_balancer" {
  description = "Name of the load balancer in CloudWatch."
  value       = aws_lb.this["internal"].arn_suffix
}

output "deletion_protection" {
  description = "Whether every load balancer refuses to be deleted."
  value       = alltrue([for balancer in aws_lb.this : balancer.enable_deletion_protection])
}
