output "endpoint" {
  description = "Host and port that clients connect to; the certificate names the host."
  value       = "broker.${local.domain}:5671"
}
