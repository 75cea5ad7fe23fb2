# What workers are launched from: a launch template for each pool, one role, and a network interface that nobody
# can connect to. The autoscaler launches and ends them; Terraform never owns one.

resource "aws_security_group" "this" {
  # checkov:skip=CKV2_AWS_5: the launch template of the module `host` attaches it
  name_prefix = "stoker-${var.name}-worker-"
  description = "Workers: nothing comes in"
  vpc_id      = var.vpc_id
  tags        = merge(var.tags, { Name = "stoker-${var.name}-worker" })

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_vpc_security_group_egress_rule" "https" {
  security_group_id = aws_security_group.this.id
  description       = "AWS, and model hubs where there is a way to the internet"
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
}

resource "aws_vpc_security_group_egress_rule" "coordinator" {
  security_group_id = aws_security_group.this.id
  description       = "The coordinator's tunnel"
  cidr_ipv4         = var.home_cidr
  ip_protocol       = "tcp"
  from_port         = var.coordinator_port
  to_port           = var.coordinator_port
}

resource "aws_vpc_security_group_egress_rule" "broker" {
  security_group_id = aws_security_group.this.id
  description       = "The broker, over TLS"
  cidr_ipv4         = var.home_cidr
  ip_protocol       = "tcp"
  from_port         = 5671
  to_port           = 5671
}

module "host" {
  source = "../host"

  name                     = var.name
  role                     = "worker"
  ami_id                   = var.ami_id
  variants                 = { for pool in var.pools : pool => { BOOT_POOL = pool } }
  settings                 = var.settings
  security_group_ids       = [aws_security_group.this.id]
  secret_arns              = var.secret_arns
  bucket_arn               = var.bucket_arn
  object_prefixes          = ["config/", "weights/"]
  decrypt_key_arns         = var.decrypt_key_arns
  metrics_workspace_arn    = var.metrics_workspace_arn
  kms_key_arn              = var.kms_key_arn
  disk_gb                  = var.disk_gb
  disk_initialization_rate = var.disk_initialization_rate
  tags                     = var.tags
}
