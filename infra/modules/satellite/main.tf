# Workers in a further region, where spot capacity may be had when it is short at home: a network of its own,
# peered with the home network, and launch templates. Everything else stays at home.

data "aws_region" "current" {}

module "key" {
  source = "../key"

  name = var.name
  tags = var.tags
}

module "network" {
  source = "../network"

  name                = var.name
  cidr                = var.region.cidr
  zones               = var.region.zones
  nat                 = var.region.nat
  interface_endpoints = var.region.interface_endpoints
  flow_log_days       = var.flow_log_days
  kms_key_arn         = module.key.arn
  tags                = var.tags
}

resource "aws_vpc_peering_connection" "this" {
  provider = aws.home

  vpc_id      = var.home.vpc_id
  peer_vpc_id = module.network.vpc_id
  peer_region = data.aws_region.current.id
  auto_accept = false
  tags        = merge(var.tags, { Name = "stoker-${var.name}-${data.aws_region.current.id}" })
}

resource "aws_vpc_peering_connection_accepter" "this" {
  vpc_peering_connection_id = aws_vpc_peering_connection.this.id
  auto_accept               = true
  tags                      = merge(var.tags, { Name = "stoker-${var.name}-home" })
}

resource "aws_route" "home" {
  for_each = module.network.private_route_tables

  route_table_id            = each.value
  destination_cidr_block    = var.home.cidr
  vpc_peering_connection_id = aws_vpc_peering_connection_accepter.this.id
}

resource "aws_route" "back" {
  provider = aws.home
  for_each = var.home.route_tables

  route_table_id            = each.value
  destination_cidr_block    = var.region.cidr
  vpc_peering_connection_id = aws_vpc_peering_connection_accepter.this.id
}

module "workers" {
  source = "../workers"

  name                     = var.name
  pools                    = var.pools
  vpc_id                   = module.network.vpc_id
  home_cidr                = var.home.cidr
  coordinator_port         = var.coordinator_port
  ami_id                   = var.region.ami_id
  settings                 = var.settings
  secret_arns              = var.secret_arns
  bucket_arn               = var.bucket_arn
  decrypt_key_arns         = var.decrypt_key_arns
  metrics_workspace_arn    = var.metrics_workspace_arn
  kms_key_arn              = module.key.arn
  disk_gb                  = var.disk_gb
  disk_initialization_rate = var.disk_initialization_rate
  tags                     = var.tags
}
