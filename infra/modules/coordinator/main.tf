# Coordinators, and the only way to them: a load balancer that passes on TLS to a tunnel on each machine. A
# coordinator listens on its own machine's loopback only; the tunnel lets in who has a key of Secrets Manager.

locals {
  # Who may come in. Keys can be changed and taken away one by one.
  parties = toset(["worker", "autoscaler", "operator"])
  # What each bearer may do. The name `join`, of workers, is part of their secret's.
  tokens = {
    join       = "Token with which a worker joins the fleet"
    autoscaler = "Token with which an autoscaler may change the fleet"
    operator   = "Token with which an operator may change the fleet"
  }
  tunnel_port = 7443
  health_port = 7071
  endpoints   = length(var.endpoint_cidrs) > 0 ? { internal = true, public = false } : { internal = true }
}

data "aws_secretsmanager_random_password" "tunnel" {
  for_each = local.parties

  password_length     = 64
  exclude_punctuation = true
}

resource "aws_secretsmanager_secret" "tunnel" {
  # checkov:skip=CKV2_AWS_57: both ends read a new key within five minutes of each other, so a change cuts connections; it is for a person to time
  for_each = local.parties

  name_prefix             = "stoker/${var.name}/tunnel-${each.key}-"
  description             = "Key with which a ${each.key} joins the fleet"
  kms_key_id              = var.kms_key_arn
  recovery_window_in_days = var.deletion_protection ? 30 : 0
  tags                    = var.tags
}

resource "aws_secretsmanager_secret_version" "tunnel" {
  for_each = local.parties

  secret_id     = aws_secretsmanager_secret.tunnel[each.key].id
  secret_string = jsonencode({ key = data.aws_secretsmanager_random_password.tunnel[each.key].random_password })

  # The source gives another one each time; the first stays.
  lifecycle {
    ignore_changes = [secret_string]
  }
}

# The tunnel lets workers, autoscalers and operators in; these say who of them may take work, who may stop the fleet and
# end its machines, and who leads it. Both ends read a new one within five minutes.
data "aws_secretsmanager_random_password" "token" {
  for_each = local.tokens

  password_length     = 64
  exclude_punctuation = true
}

resource "aws_secretsmanager_secret" "token" {
  # checkov:skip=CKV2_AWS_57: both ends read a new token at their own times, so a change keeps workers, people and autoscalers out for some minutes; it is for a person to time
  for_each = local.tokens

  name_prefix             = "stoker/${var.name}/${each.key}-"
  description             = each.value
  kms_key_id              = var.kms_key_arn
  recovery_window_in_days = var.deletion_protection ? 30 : 0
  tags                    = var.tags
}

resource "aws_secretsmanager_secret_version" "token" {
  for_each = local.tokens

  secret_id     = aws_secretsmanager_secret.token[each.key].id
  secret_string = jsonencode({ token = data.aws_secretsmanager_random_password.token[each.key].random_password })

  # The source gives another one each time; the first stays.
  lifecycle {
    ignore_changes = [secret_string]
  }
}

# Fleets of before have the token of workers under its own name.
moved {
  from = aws_secretsmanager_secret.join
  to   = aws_secretsmanager_secret.token["join"]
}

moved {
  from = aws_secretsmanager_secret_version.join
  to   = aws_secretsmanager_secret_version.token["join"]
}

resource "aws_security_group" "balancer" {
  for_each = local.endpoints

  name_prefix = "stoker-${var.name}-lb-${each.key}-"
  description = "Way to the coordinators, ${each.key}"
  vpc_id      = var.vpc_id
  tags        = merge(var.tags, { Name = "stoker-${var.name}-lb-${each.key}" })

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_vpc_security_group_ingress_rule" "fleet" {
  for_each = toset(var.client_cidrs)

  security_group_id = aws_security_group.balancer["internal"].id
  description       = "The tunnel, from the fleet's networks"
  cidr_ipv4         = each.key
  ip_protocol       = "tcp"
  from_port         = local.tunnel_port
  to_port           = local.tunnel_port
}

# Only where someone has asked for it, and still only with a key.
resource "aws_vpc_security_group_ingress_rule" "public" {
  for_each = toset(var.endpoint_cidrs)

  security_group_id = aws_security_group.balancer["public"].id
  description       = "The tunnel, from networks that were named"
  cidr_ipv4         = each.key
  ip_protocol       = "tcp"
  from_port         = local.tunnel_port
  to_port           = local.tunnel_port
}

resource "aws_vpc_security_group_egress_rule" "balancer" {
  for_each = merge([
    for endpoint in keys(local.endpoints) : {
      "${endpoint}-tunnel" = { endpoint = endpoint, port = local.tunnel_port }
      "${endpoint}-health" = { endpoint = endpoint, port = local.health_port }
    }
  ]...)

  security_group_id            = aws_security_group.balancer[each.value.endpoint].id
  description                  = "To the coordinators"
  referenced_security_group_id = aws_security_group.coordinator.id
  ip_protocol                  = "tcp"
  from_port                    = each.value.port
  to_port                      = each.value.port
}

resource "aws_security_group" "coordinator" {
  # checkov:skip=CKV2_AWS_5: the launch template of the module `host` attaches it
  name_prefix = "stoker-${var.name}-coordinator-"
  description = "Coordinators"
  vpc_id      = var.vpc_id
  tags        = merge(var.tags, { Name = "stoker-${var.name}-coordinator" })

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_vpc_security_group_ingress_rule" "coordinator" {
  for_each = merge([
    for endpoint in keys(local.endpoints) : {
      "${endpoint}-tunnel" = { endpoint = endpoint, port = local.tunnel_port }
      "${endpoint}-health" = { endpoint = endpoint, port = local.health_port }
    }
  ]...)

  security_group_id            = aws_security_group.coordinator.id
  description                  = "From the load balancer"
  referenced_security_group_id = aws_security_group.balancer[each.value.endpoint].id
  ip_protocol                  = "tcp"
  from_port                    = each.value.port
  to_port                      = each.value.port
}

resource "aws_vpc_security_group_egress_rule" "https" {
  security_group_id = aws_security_group.coordinator.id
  description       = "AWS: secrets, sessions, metrics"
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
}

resource "aws_vpc_security_group_egress_rule" "inside" {
  for_each = { store = 5432, broker = 5671 }

  security_group_id = aws_security_group.coordinator.id
  description       = "The ${each.key}, over TLS"
  cidr_ipv4         = var.vpc_cidr
  ip_protocol       = "tcp"
  from_port         = each.value
  to_port           = each.value
}

module "host" {
  source = "../host"

  name          = var.name
  role          = "coordinator"
  ami_id        = var.ami_id
  instance_type = var.instance_type
  settings = merge(
    var.settings,
    { for party in local.parties : "BOOT_TUNNEL_${upper(party)}_SECRET" => aws_secretsmanager_secret.tunnel[party].arn },
    { for bearer, secret in aws_secretsmanager_secret.token : "BOOT_${upper(bearer)}_SECRET" => secret.arn },
  )
  security_group_ids = [aws_security_group.coordinator.id]
  secret_arns = concat(
    var.secret_arns,
    [for secret in aws_secretsmanager_secret.tunnel : secret.arn],
    [for secret in aws_secretsmanager_secret.token : secret.arn],
  )
  bucket_arn            = var.bucket_arn
  decrypt_key_arns      = var.decrypt_key_arns
  metrics_workspace_arn = var.metrics_workspace_arn
  kms_key_arn           = var.kms_key_arn
  tags                  = var.tags
}

resource "aws_lb" "this" {
  # checkov:skip=CKV_AWS_150: `dev` must be easy to destroy; `prod` is protected
  # checkov:skip=CKV_AWS_91: a network load balancer logs its own TLS listeners only, and this one passes TLS through
  for_each = local.endpoints

  name                             = "stoker-${var.name}-${each.key}"
  internal                         = each.value
  load_balancer_type               = "network"
  subnets                          = each.value ? var.subnet_ids : var.public_subnet_ids
  security_groups                  = [aws_security_group.balancer[each.key].id]
  enable_cross_zone_load_balancing = true
  enable_deletion_protection       = var.deletion_protection
  tags                             = var.tags
}

resource "aws_lb_target_group" "this" {
  for_each = local.endpoints

  name                   = "stoker-${var.name}-${each.key}"
  port                   = local.tunnel_port
  protocol               = "TCP"
  vpc_id                 = var.vpc_id
  preserve_client_ip     = false
  deregistration_delay   = 30
  connection_termination = true
  tags                   = var.tags

  # The page that says whether the coordinator is ready, served beside it without its other pages.
  health_check {
    protocol            = "HTTP"
    port                = local.health_port
    path                = "/readyz"
    interval            = 10
    timeout             = 6
    healthy_threshold   = 2
    unhealthy_threshold = 3
    matcher             = "200"
  }
}

resource "aws_lb_listener" "this" {
  for_each = local.endpoints

  load_balancer_arn = aws_lb.this[each.key].arn
  port              = local.tunnel_port
  protocol          = "TCP"
  tags              = var.tags

  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.this[each.key].arn
  }
}

resource "aws_autoscaling_group" "this" {
  name_prefix               = "stoker-${var.name}-coordinator-"
  min_size                  = var.instances
  max_size                  = var.instances + 1
  desired_capacity          = var.instances
  vpc_zone_identifier       = var.subnet_ids
  target_group_arns         = [for group in aws_lb_target_group.this : group.arn]
  health_check_type         = "ELB"
  health_check_grace_period = 300

  launch_template {
    id      = module.host.launch_templates[""].id
    version = module.host.launch_templates[""].version
  }

  # One after the other, each ready before the next goes; a new one comes first.
  instance_refresh {
    strategy = "Rolling"
    preferences {
      min_healthy_percentage = 100
      max_healthy_percentage = 200
      instance_warmup        = 120
      auto_rollback          = true
    }
  }

  dynamic "tag" {
    for_each = merge(var.tags, { Name = "stoker-${var.name}-coordinator" })
    content {
      key                 = tag.key
      value               = tag.value
      propagate_at_launch = true
    }
  }
}
