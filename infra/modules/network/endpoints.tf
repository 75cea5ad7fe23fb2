# Ways to AWS that need no NAT. The one to S3 costs nothing and carries the weights, so it is always there. The
# others cost by the hour: they replace NAT where there is none, and save its price per gigabyte elsewhere.

locals {
  services = toset(var.interface_endpoints)
}

resource "aws_vpc_endpoint" "s3" {
  vpc_id            = aws_vpc.this.id
  service_name      = "com.amazonaws.${data.aws_region.current.id}.s3"
  vpc_endpoint_type = "Gateway"
  route_table_ids   = [for table in aws_route_table.private : table.id]
  tags              = merge(var.tags, { Name = "stoker-${var.name}-s3" })
}

resource "aws_security_group" "endpoints" {
  count = length(local.services) > 0 ? 1 : 0

  name_prefix = "stoker-${var.name}-endpoints-"
  description = "Interface endpoints of AWS, for machines of this VPC"
  vpc_id      = aws_vpc.this.id
  tags        = merge(var.tags, { Name = "stoker-${var.name}-endpoints" })

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_vpc_security_group_ingress_rule" "endpoints" {
  count = length(local.services) > 0 ? 1 : 0

  security_group_id = aws_security_group.endpoints[0].id
  description       = "TLS from this VPC"
  cidr_ipv4         = var.cidr
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
}

resource "aws_vpc_endpoint" "interface" {
  for_each = local.services

  vpc_id              = aws_vpc.this.id
  service_name        = "com.amazonaws.${data.aws_region.current.id}.${each.key}"
  vpc_endpoint_type   = "Interface"
  private_dns_enabled = true
  subnet_ids          = [for subnet in aws_subnet.private : subnet.id]
  security_group_ids  = [aws_security_group.endpoints[0].id]
  tags                = merge(var.tags, { Name = "stoker-${var.name}-${each.key}" })
}
