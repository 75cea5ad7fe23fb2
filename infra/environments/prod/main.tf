# A fleet that loses no job when a machine, a disk or a zone is lost, and that cannot be destroyed by one command.

locals {
  environment = "prod"
}

module "fleet" {
  source = "../../modules/fleet"
  providers = {
    aws        = aws
    aws.second = aws.second
    aws.third  = aws.third
  }

  name       = var.name
  regions    = var.regions
  fleet_toml = file(var.fleet_file)
  pools      = var.pools

  store       = merge(var.store, { multi_az = true })
  broker      = merge(var.broker, { highly_available = true })
  coordinator = var.coordinator
  autoscaler  = { instances = var.autoscalers, instance_type = "t3.small" }

  budget = {
    monthly_usd       = var.monthly_usd
    anomaly_usd       = var.anomaly_usd
    activate_cost_tag = var.activate_cost_tag
  }
  emails                    = var.emails
  endpoint_cidrs            = var.endpoint_cidrs
  identity_certificates_pem = var.identity_certificates_file == null ? null : file(var.identity_certificates_file)
  create_spot_role          = var.create_spot_role
  grafana                   = var.grafana
  flow_log_days             = 90

  deletion_protection = var.deletion_protection
  tags                = local.tags
}
