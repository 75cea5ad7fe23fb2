# Three RabbitMQ nodes, each in a zone of its own and with a disk that outlives the machine, behind a load balancer
# that only the fleet reaches. Clients, and the nodes among themselves, speak TLS with the certificate that
# infra/bin/broker-certificate made.

locals {
  nodes  = { for index in range(3) : "node-${index}" => index }
  domain = "${var.name}.stoker.internal"
  peers  = join(",", [for node in keys(local.nodes) : "${node}.${local.domain}"])
}

data "aws_subnet" "this" {
  for_each = local.nodes

  id = var.subnet_ids[each.value]
}

resource "aws_route53_zone" "this" {
  # checkov:skip=CKV2_AWS_38: DNSSEC is for public zones
  # checkov:skip=CKV2_AWS_39: queries of a private zone are logged by the resolver, where a company wants that
  name    = local.domain
  comment = "Stoker fleet ${var.name}: nodes of the broker"
  tags    = var.tags

  vpc {
    vpc_id = var.vpc_id
  }
}

resource "aws_vpc_security_group_ingress_rule" "peers" {
  for_each = { epmd = 4369, distribution = 25672 }

  security_group_id            = var.security_group_id
  description                  = "Nodes among themselves: ${each.key}"
  referenced_security_group_id = var.security_group_id
  ip_protocol                  = "tcp"
  from_port                    = each.value
  to_port                      = each.value
}

resource "aws_vpc_security_group_egress_rule" "peers" {
  for_each = { epmd = 4369, distribution = 25672 }

  security_group_id            = var.security_group_id
  description                  = "Nodes among themselves: ${each.key}"
  referenced_security_group_id = var.security_group_id
  ip_protocol                  = "tcp"
  from_port                    = each.value
  to_port                      = each.value
}

resource "aws_vpc_security_group_egress_rule" "https" {
  security_group_id = var.security_group_id
  description       = "AWS: secrets, sessions, metrics"
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
}

module "host" {
  source = "../host"

  name                  = var.name
  role                  = "broker"
  ami_id                = var.ami_id
  instance_type         = var.instance_type
  variants              = { for node in keys(local.nodes) : node => { BOOT_NODE = "${node}.${local.domain}" } }
  settings              = merge(var.settings, { BOOT_PEERS = local.peers, BOOT_BROKER_SECRET = var.password_secret_arn, BOOT_TLS_SECRET = var.tls_secret_arn })
  security_group_ids    = [var.security_group_id]
  secret_arns           = [var.password_secret_arn, var.tls_secret_arn]
  bucket_arn            = var.bucket_arn
  decrypt_key_arns      = var.decrypt_key_arns
  metrics_workspace_arn = var.metrics_workspace_arn
  kms_key_arn           = var.kms_key_arn
  tags                  = var.tags
}

resource "aws_instance" "this" {
  # checkov:skip=CKV_AWS_79: the launch template requires the second version of the metadata service
  # checkov:skip=CKV_AWS_8: the launch template encrypts the disk
  # checkov:skip=CKV_AWS_126: RabbitMQ's own numbers say more than detailed monitoring of the machine
  # checkov:skip=CKV_AWS_135: the launch template says so
  # checkov:skip=CKV2_AWS_41: the launch template names the profile
  for_each = local.nodes

  subnet_id               = var.subnet_ids[each.value]
  disable_api_termination = var.deletion_protection
  tags                    = merge(var.tags, { Name = "stoker-${var.name}-broker-${each.value}" })

  launch_template {
    id      = module.host.launch_templates[each.key].id
    version = module.host.launch_templates[each.key].version
  }
}

resource "aws_ebs_volume" "this" {
  for_each = local.nodes

  availability_zone = data.aws_subnet.this[each.key].availability_zone
  type              = "gp3"
  size              = var.disk_gb
  encrypted         = true
  kms_key_id        = var.kms_key_arn
  tags              = merge(var.tags, { Name = "stoker-${var.name}-broker-${each.value}" })
}

resource "aws_volume_attachment" "this" {
  for_each = local.nodes

  device_name                    = "/dev/sdf"
  volume_id                      = aws_ebs_volume.this[each.key].id
  instance_id                    = aws_instance.this[each.key].id
  stop_instance_before_detaching = true
}

resource "aws_route53_record" "node" {
  for_each = local.nodes

  zone_id = aws_route53_zone.this.zone_id
  name    = "${each.key}.${local.domain}"
  type    = "A"
  ttl     = 30
  records = [aws_instance.this[each.key].private_ip]
}

resource "aws_route53_record" "broker" {
  zone_id = aws_route53_zone.this.zone_id
  name    = "broker.${local.domain}"
  type    = "A"

  alias {
    name                   = aws_lb.this.dns_name
    zone_id                = aws_lb.this.zone_id
    evaluate_target_health = false
  }
}

resource "aws_lb" "this" {
  # checkov:skip=CKV_AWS_150: `dev` must be easy to destroy; `prod` is protected
  # checkov:skip=CKV_AWS_91: a network load balancer logs its own TLS listeners only, and this one passes TLS through
  name                             = "stoker-${var.name}-broker"
  internal                         = true
  load_balancer_type               = "network"
  subnets                          = [for node, index in local.nodes : var.subnet_ids[index]]
  security_groups                  = [aws_security_group.balancer.id]
  enable_cross_zone_load_balancing = true
  enable_deletion_protection       = var.deletion_protection
  tags                             = var.tags
}

resource "aws_security_group" "balancer" {
  name_prefix = "stoker-${var.name}-broker-lb-"
  description = "The broker's load balancer"
  vpc_id      = var.vpc_id
  tags        = merge(var.tags, { Name = "stoker-${var.name}-broker-lb" })

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_vpc_security_group_ingress_rule" "balancer" {
  for_each = toset(var.client_cidrs)

  security_group_id = aws_security_group.balancer.id
  description       = "AMQP over TLS, from the fleet's networks"
  cidr_ipv4         = each.key
  ip_protocol       = "tcp"
  from_port         = 5671
  to_port           = 5671
}

resource "aws_vpc_security_group_egress_rule" "balancer" {
  security_group_id            = aws_security_group.balancer.id
  description                  = "To the nodes"
  referenced_security_group_id = var.security_group_id
  ip_protocol                  = "tcp"
  from_port                    = 5671
  to_port                      = 5671
}

resource "aws_vpc_security_group_ingress_rule" "from_balancer" {
  security_group_id            = var.security_group_id
  description                  = "AMQP over TLS, and health checks, from the load balancer"
  referenced_security_group_id = aws_security_group.balancer.id
  ip_protocol                  = "tcp"
  from_port                    = 5671
  to_port                      = 5671
}

resource "aws_lb_target_group" "this" {
  name               = "stoker-${var.name}-broker"
  port               = 5671
  protocol           = "TCP"
  vpc_id             = var.vpc_id
  preserve_client_ip = false
  tags               = var.tags

  health_check {
    protocol            = "TCP"
    interval            = 10
    healthy_threshold   = 2
    unhealthy_threshold = 2
  }
}

resource "aws_lb_target_group_attachment" "this" {
  for_each = local.nodes

  target_group_arn = aws_lb_target_group.this.arn
  target_id        = aws_instance.this[each.key].id
}

resource "aws_lb_listener" "this" {
  load_balancer_arn = aws_lb.this.arn
  port              = 5671
  protocol          = "TCP"

  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.this.arn
  }
}
