# A VPC with private subnets. Nothing in it has a public address but NAT gateways and, if it was asked for, the
# public endpoint's load balancer.

data "aws_region" "current" {}

locals {
  zones   = { for index, zone in var.zones : zone => index }
  public  = var.nat != "none"
  nat     = { for zone, index in local.zones : zone => index if var.nat == "per-zone" || (var.nat == "single" && index == 0) }
  exit_of = { for zone in var.zones : zone => var.nat == "per-zone" ? zone : var.zones[0] }
}

resource "aws_vpc" "this" {
  cidr_block           = var.cidr
  enable_dns_support   = true
  enable_dns_hostnames = true
  tags                 = merge(var.tags, { Name = "stoker-${var.name}" })
}

# AWS creates it open to itself; emptied, a machine that is given no group by mistake reaches nothing.
resource "aws_default_security_group" "this" {
  vpc_id = aws_vpc.this.id
  tags   = merge(var.tags, { Name = "stoker-${var.name}-unused" })
}

resource "aws_subnet" "private" {
  for_each = local.zones

  vpc_id                  = aws_vpc.this.id
  availability_zone       = each.key
  cidr_block              = cidrsubnet(var.cidr, 3, each.value)
  map_public_ip_on_launch = false
  tags                    = merge(var.tags, { Name = "stoker-${var.name}-private-${each.key}" })
}

resource "aws_subnet" "public" {
  for_each = local.public ? local.zones : {}

  vpc_id                  = aws_vpc.this.id
  availability_zone       = each.key
  cidr_block              = cidrsubnet(var.cidr, 8, 224 + each.value)
  map_public_ip_on_launch = false
  tags                    = merge(var.tags, { Name = "stoker-${var.name}-public-${each.key}" })
}

resource "aws_internet_gateway" "this" {
  count = local.public ? 1 : 0

  vpc_id = aws_vpc.this.id
  tags   = merge(var.tags, { Name = "stoker-${var.name}" })
}

resource "aws_route_table" "public" {
  count = local.public ? 1 : 0

  vpc_id = aws_vpc.this.id
  tags   = merge(var.tags, { Name = "stoker-${var.name}-public" })
}

resource "aws_route" "internet" {
  count = local.public ? 1 : 0

  route_table_id         = aws_route_table.public[0].id
  destination_cidr_block = "0.0.0.0/0"
  gateway_id             = aws_internet_gateway.this[0].id
}

resource "aws_route_table_association" "public" {
  for_each = aws_subnet.public

  subnet_id      = each.value.id
  route_table_id = aws_route_table.public[0].id
}

resource "aws_eip" "nat" {
  # checkov:skip=CKV2_AWS_19: it belongs to the NAT gateway of the same zone, which checkov does not follow through for_each
  for_each = local.nat

  domain = "vpc"
  tags   = merge(var.tags, { Name = "stoker-${var.name}-nat-${each.key}" })
}

resource "aws_nat_gateway" "this" {
  for_each = local.nat

  allocation_id = aws_eip.nat[each.key].id
  subnet_id     = aws_subnet.public[each.key].id
  tags          = merge(var.tags, { Name = "stoker-${var.name}-${each.key}" })
  depends_on    = [aws_internet_gateway.this]
}

resource "aws_route_table" "private" {
  for_each = local.zones

  vpc_id = aws_vpc.this.id
  tags   = merge(var.tags, { Name = "stoker-${var.name}-private-${each.key}" })
}

resource "aws_route" "nat" {
  for_each = local.public ? local.exit_of : {}

  route_table_id         = aws_route_table.private[each.key].id
  destination_cidr_block = "0.0.0.0/0"
  nat_gateway_id         = aws_nat_gateway.this[each.value].id
}

resource "aws_route_table_association" "private" {
  for_each = aws_subnet.private

  subnet_id      = each.value.id
  route_table_id = aws_route_table.private[each.key].id
}
