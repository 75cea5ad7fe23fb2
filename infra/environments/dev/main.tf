# The smallest fleet that is whole: one of everything, easy to destroy.

locals {
  environment = "dev"
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

  store       = { instance_class = "db.t4g.micro", multi_az = false, storage_gb = 20, backup_days = 1 }
  broker      = { instance_type = "mq.m7g.medium", highly_available = false, memory_alarm_bytes = 1400000000 }
  coordinator = { instances = 1, instance_type = "t3.small" }
  autoscaler  = { instances = var.autoscalers, instance_type = "t3.micro" }

  budget                    = { monthly_usd = var.monthly_usd, activate_cost_tag = var.activate_cost_tag }
  emails                    = var.emails
  endpoint_cidrs            = var.endpoint_cidrs
  identity_certificates_pem = var.identity_certificates_file == null ? null : file(var.identity_certificates_file)
  create_spot_role          = var.create_spot_role
  flow_log_days             = 7

  deletion_protection = false
  tags                = local.tags
}
