output "workspace_arn" {
  description = "ARN of the Prometheus workspace."
  value       = aws_prometheus_workspace.this.arn
}

output "remote_write_url" {
  description = "Where machines write their metrics."
  value       = "${aws_prometheus_workspace.this.prometheus_endpoint}api/v1/remote_write"
}

output "topic_arn" {
  description = "Topic of alerts, alarms and budgets."
  value       = aws_sns_topic.this.arn
}

output "grafana" {
  description = "Address of Grafana; null if there is none."
  value       = var.grafana ? "https://${aws_grafana_workspace.this[0].endpoint}" : null
}
