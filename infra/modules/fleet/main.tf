# A whole fleet: what `dev` and `prod` have in common. The first region is home, with coordinators, store, broker
# and autoscaler; the others hold workers only.

data "aws_caller_identity" "current" {}

locals {
  home    = var.regions[0]
  regions = [for region in var.regions : region.name]
  cidrs   = [for region in var.regions : region.cidr]

  # What every machine is told; none of it is a secret.
  settings = {
    BOOT_FLEET       = var.name
    BOOT_HOME_REGION = local.home.name
    BOOT_BUCKET      = module.artifacts.bucket
    BOOT_METRICS_URL = module.observability.remote_write_url
  }

  # Whose machines workers may run on. Coordinators read the certificates when they boot, so others replace them.
  identity_settings = var.identity_certificates_pem == null ? {} : {
    BOOT_IDENTITY_ACCOUNT = data.aws_caller_identity.current.account_id
    BOOT_IDENTITY_REGIONS = join(",", local.regions)
    BOOT_IDENTITY_VERSION = md5(var.identity_certificates_pem)
  }

  # Machines read the fleet file when they boot, so another file makes another launch template, and machines of the
  # old one are replaced. Workers need not know of the provider, whose table names their own templates.
  worker_settings = merge(local.settings, {
    BOOT_COORDINATOR          = module.coordinator.address
    BOOT_FLEET_VERSION        = md5(var.fleet_toml)
    BOOT_TUNNEL_WORKER_SECRET = module.coordinator.tunnel_secret_arns["worker"]
    BOOT_BROKER_SECRET        = module.broker.secret_arn
    BOOT_JOIN_SECRET          = module.coordinator.join_secret_arn
  })

  worker_secrets = [
    module.coordinator.tunnel_secret_arns["worker"],
    module.broker.secret_arn,
    module.coordinator.join_secret_arn,
  ]

  # Workers of each region, home first.
  fleets = concat(
    [{
      launch_templates   = module.workers.launch_templates
      subnets            = module.network.private_subnets
      subnet_arns        = module.network.private_subnet_arns
      security_group_arn = module.workers.security_group_arn
      worker_role_arn    = module.workers.role_arn
    }],
    module.second[*],
    module.third[*],
  )
}

module "key" {
  source = "../key"

  name = var.name
  tags = var.tags
}

module "artifacts" {
  source = "../artifacts"

  name                      = var.name
  kms_key_arn               = module.key.arn
  fleet_toml                = local.fleet_toml
  broker_ca_pem             = var.broker.ca_pem
  identity_certificates_pem = var.identity_certificates_pem
  deletion_protection       = var.deletion_protection
  tags                      = var.tags
}

module "network" {
  source = "../network"

  name                = var.name
  cidr                = local.home.cidr
  zones               = local.home.zones
  nat                 = local.home.nat
  interface_endpoints = local.home.interface_endpoints
  flow_log_days       = var.flow_log_days
  kms_key_arn         = module.key.arn
  tags                = var.tags
}

module "observability" {
  source = "../observability"

  name = var.name
  rules = {
    for file in fileset("${path.module}/../../observability/rules", "*.yml") :
    trimsuffix(file, ".yml") => file("${path.module}/../../observability/rules/${file}")
  }
  emails                    = var.emails
  store_identifier          = module.store.identifier
  broker_name               = module.broker.broker_name
  broker_memory_alarm_bytes = var.broker.memory_alarm_bytes
  load_balancer             = module.coordinator.load_balancer
  target_group              = module.coordinator.target_group
  grafana                   = var.grafana
  kms_key_arn               = module.key.arn
  tags                      = var.tags
}

module "store" {
  source = "../store"

  name                          = var.name
  vpc_id                        = module.network.vpc_id
  subnet_ids                    = values(module.network.private_subnets)
  coordinator_security_group_id = module.coordinator.security_group_id
  engine_version                = var.store.engine_version
  instance_class                = var.store.instance_class
  multi_az                      = var.store.multi_az
  storage_gb                    = var.store.storage_gb
  backup_days                   = var.store.backup_days
  deletion_protection           = var.deletion_protection
  kms_key_arn                   = module.key.arn
  tags                          = var.tags
}

module "broker" {
  source = "../broker"

  name                  = var.name
  kind                  = var.broker.kind
  engine_version        = var.broker.engine_version
  instance_type         = var.broker.instance_type
  highly_available      = var.broker.highly_available
  vpc_id                = module.network.vpc_id
  subnet_ids            = values(module.network.private_subnets)
  client_cidrs          = local.cidrs
  tls_secret_arn        = var.broker.tls_secret_arn
  ami_id                = local.home.ami_id
  settings              = local.settings
  bucket_arn            = module.artifacts.bucket_arn
  decrypt_key_arns      = [module.key.arn]
  metrics_workspace_arn = module.observability.workspace_arn
  kms_key_arn           = module.key.arn
  deletion_protection   = var.deletion_protection
  tags                  = var.tags
}

module "coordinator" {
  source = "../coordinator"

  name              = var.name
  instances         = var.coordinator.instances
  instance_type     = var.coordinator.instance_type
  ami_id            = local.home.ami_id
  vpc_id            = module.network.vpc_id
  vpc_cidr          = module.network.cidr
  subnet_ids        = values(module.network.private_subnets)
  public_subnet_ids = values(module.network.public_subnets)
  client_cidrs      = local.cidrs
  endpoint_cidrs    = var.endpoint_cidrs
  settings = merge(local.settings, local.identity_settings, {
    BOOT_FLEET_VERSION = md5(local.fleet_toml)
    BOOT_STORE_HOST    = module.store.host
    BOOT_STORE_SECRET  = module.store.secret_arn
    BOOT_BROKER_SECRET = module.broker.secret_arn
  })
  secret_arns           = [module.store.secret_arn, module.broker.secret_arn]
  bucket_arn            = module.artifacts.bucket_arn
  decrypt_key_arns      = [module.key.arn]
  metrics_workspace_arn = module.observability.workspace_arn
  kms_key_arn           = module.key.arn
  deletion_protection   = var.deletion_protection
  tags                  = var.tags
}

module "workers" {
  source = "../workers"

  name                     = var.name
  pools                    = var.pools
  vpc_id                   = module.network.vpc_id
  home_cidr                = module.network.cidr
  coordinator_port         = module.coordinator.port
  ami_id                   = local.home.ami_id
  settings                 = local.worker_settings
  secret_arns              = local.worker_secrets
  bucket_arn               = module.artifacts.bucket_arn
  decrypt_key_arns         = [module.key.arn]
  metrics_workspace_arn    = module.observability.workspace_arn
  kms_key_arn              = module.key.arn
  disk_gb                  = var.worker_disk.gb
  disk_initialization_rate = var.worker_disk.initialization_rate
  tags                     = var.tags
}

module "second" {
  source    = "../satellite"
  count     = length(var.regions) > 1 ? 1 : 0
  providers = { aws = aws.second, aws.home = aws }

  name                     = var.name
  region                   = var.regions[1]
  home                     = { vpc_id = module.network.vpc_id, cidr = module.network.cidr, route_tables = module.network.private_route_tables }
  pools                    = var.pools
  coordinator_port         = module.coordinator.port
  flow_log_days            = var.flow_log_days
  settings                 = local.worker_settings
  secret_arns              = local.worker_secrets
  bucket_arn               = module.artifacts.bucket_arn
  decrypt_key_arns         = [module.key.arn]
  metrics_workspace_arn    = module.observability.workspace_arn
  disk_gb                  = var.worker_disk.gb
  disk_initialization_rate = var.worker_disk.initialization_rate
  tags                     = var.tags
}

module "third" {
  source    = "../satellite"
  count     = length(var.regions) > 2 ? 1 : 0
  providers = { aws = aws.third, aws.home = aws }

  name                     = var.name
  region                   = var.regions[2]
  home                     = { vpc_id = module.network.vpc_id, cidr = module.network.cidr, route_tables = module.network.private_route_tables }
  pools                    = var.pools
  coordinator_port         = module.coordinator.port
  flow_log_days            = var.flow_log_days
  settings                 = local.worker_settings
  secret_arns              = local.worker_secrets
  bucket_arn               = module.artifacts.bucket_arn
  decrypt_key_arns         = [module.key.arn]
  metrics_workspace_arn    = module.observability.workspace_arn
  disk_gb                  = var.worker_disk.gb
  disk_initialization_rate = var.worker_disk.initialization_rate
  tags                     = var.tags
}

module "autoscaler" {
  source = "../autoscaler"

  name                 = var.name
  regions              = local.regions
  instances            = var.autoscaler.instances
  instance_type        = var.autoscaler.instance_type
  ami_ids              = { for region in var.regions : region.name => region.ami_id }
  vpc_id               = module.network.vpc_id
  vpc_cidr             = module.network.cidr
  subnet_ids           = values(module.network.private_subnets)
  coordinator_port     = module.coordinator.port
  launch_template_arns = flatten([for fleet in local.fleets : [for template in fleet.launch_templates : template.arn]])
  subnet_arns          = flatten([for fleet in local.fleets : fleet.subnet_arns])
  security_group_arns  = [for fleet in local.fleets : fleet.security_group_arn]
  worker_role_arns     = [for fleet in local.fleets : fleet.worker_role_arn]
  create_spot_role     = var.create_spot_role
  settings = merge(local.settings, {
    BOOT_COORDINATOR              = module.coordinator.address
    BOOT_FLEET_VERSION            = md5(local.fleet_toml)
    BOOT_TUNNEL_AUTOSCALER_SECRET = module.coordinator.tunnel_secret_arns["autoscaler"]
    BOOT_AUTOSCALER_SECRET        = module.coordinator.token_secret_arns["autoscaler"]
  })
  secret_arns = [
    module.coordinator.tunnel_secret_arns["autoscaler"],
    module.coordinator.token_secret_arns["autoscaler"],
  ]
  bucket_arn            = module.artifacts.bucket_arn
  decrypt_key_arns      = [module.key.arn]
  metrics_workspace_arn = module.observability.workspace_arn
  kms_key_arn           = module.key.arn
  tags                  = var.tags
}

module "budget" {
  source = "../budget"

  name              = var.name
  monthly_usd       = var.budget.monthly_usd
  anomaly_usd       = var.budget.anomaly_usd
  emails            = var.emails
  topic_arn         = module.observability.topic_arn
  activate_cost_tag = var.budget.activate_cost_tag
  tags              = var.tags
}
