# The queue: Amazon MQ for RabbitMQ, or three nodes of one's own. Either way the fleet finds it by the URI in one
# secret, over TLS, inside the VPC.

locals {
  managed  = var.kind == "amazon-mq"
  password = jsondecode(aws_secretsmanager_secret_version.password.secret_string)
  endpoint = local.managed ? trimprefix(aws_mq_broker.this[0].instances[0].endpoints[0], "amqps://") : module.cluster[0].endpoint
}

# Amazon MQ takes the password as an argument, so it is in the state in any case: keep that encrypted and to
# yourself. A new one: `terraform apply -replace` of the secret's version.
data "aws_secretsmanager_random_password" "broker" {
  password_length     = 48
  exclude_punctuation = true
}

data "aws_secretsmanager_random_password" "cookie" {
  password_length     = 48
  exclude_punctuation = true
}

resource "aws_secretsmanager_secret" "password" {
  # checkov:skip=CKV2_AWS_57: Amazon MQ changes a user's password only while it restarts the broker, which is for a person to time
  name_prefix             = "stoker/${var.name}/broker-password-"
  description             = "The broker's user; read by Terraform and by the nodes of a cluster of one's own"
  kms_key_id              = var.kms_key_arn
  recovery_window_in_days = var.deletion_protection ? 30 : 0
  tags                    = var.tags
}

resource "aws_secretsmanager_secret_version" "password" {
  secret_id = aws_secretsmanager_secret.password.id
  secret_string = jsonencode({
    user     = "stoker"
    password = data.aws_secretsmanager_random_password.broker.random_password
    cookie   = data.aws_secretsmanager_random_password.cookie.random_password
  })

  # The source gives another one each time; the first stays.
  lifecycle {
    ignore_changes = [secret_string]
  }
}

resource "aws_secretsmanager_secret" "uri" {
  # checkov:skip=CKV2_AWS_57: follows the password above
  name_prefix             = "stoker/${var.name}/broker-"
  description             = "Where the broker is, with user and password; read by coordinators and workers"
  kms_key_id              = var.kms_key_arn
  recovery_window_in_days = var.deletion_protection ? 30 : 0
  tags                    = var.tags
}

resource "aws_secretsmanager_secret_version" "uri" {
  secret_id = aws_secretsmanager_secret.uri.id
  secret_string = jsonencode({
    uri = "amqps://${local.password.user}:${local.password.password}@${local.endpoint}/%2f"
  })
}

resource "aws_security_group" "this" {
  name_prefix = "stoker-${var.name}-broker-"
  description = "The broker, for coordinators and workers"
  vpc_id      = var.vpc_id
  tags        = merge(var.tags, { Name = "stoker-${var.name}-broker" })

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_vpc_security_group_ingress_rule" "clients" {
  for_each = toset(var.client_cidrs)

  security_group_id = aws_security_group.this.id
  description       = "AMQP over TLS, from the fleet's networks"
  cidr_ipv4         = each.key
  ip_protocol       = "tcp"
  from_port         = 5671
  to_port           = 5671
}

resource "aws_mq_configuration" "this" {
  count = local.managed ? 1 : 0

  name           = "stoker-${var.name}"
  description    = "Stoker fleet ${var.name}"
  engine_type    = "RabbitMQ"
  engine_version = var.engine_version
  # Leases bound how long a job is held; the broker's own limit must lie far above them.
  data = "consumer_timeout = 86400000\n"
  tags = var.tags
}

resource "aws_mq_broker" "this" {
  # checkov:skip=CKV_AWS_209: keys of the customer's are for ActiveMQ; a RabbitMQ broker is encrypted with a key that AWS owns
  # checkov:skip=CKV_AWS_48: RabbitMQ has general logs only, which are on; audit logs are ActiveMQ's
  # checkov:skip=CKV_AWS_197: as above
  count = local.managed ? 1 : 0

  broker_name                = "stoker-${var.name}"
  engine_type                = "RabbitMQ"
  engine_version             = var.engine_version
  host_instance_type         = var.instance_type
  deployment_mode            = var.highly_available ? "CLUSTER_MULTI_AZ" : "SINGLE_INSTANCE"
  subnet_ids                 = var.highly_available ? var.subnet_ids : slice(var.subnet_ids, 0, 1)
  security_groups            = [aws_security_group.this.id]
  publicly_accessible        = false
  auto_minor_version_upgrade = true
  apply_immediately          = !var.deletion_protection
  tags                       = var.tags

  configuration {
    id       = aws_mq_configuration.this[0].id
    revision = aws_mq_configuration.this[0].latest_revision
  }

  user {
    username = local.password.user
    password = local.password.password
  }

  logs {
    general = true
  }

  maintenance_window_start_time {
    day_of_week = "SUNDAY"
    time_of_day = "05:00"
    time_zone   = "UTC"
  }
}

module "cluster" {
  source = "../broker-cluster"
  count  = local.managed ? 0 : 1

  name                  = var.name
  vpc_id                = var.vpc_id
  subnet_ids            = var.subnet_ids
  client_cidrs          = var.client_cidrs
  security_group_id     = aws_security_group.this.id
  ami_id                = var.ami_id
  instance_type         = var.instance_type
  password_secret_arn   = aws_secretsmanager_secret.password.arn
  tls_secret_arn        = var.tls_secret_arn
  settings              = var.settings
  bucket_arn            = var.bucket_arn
  decrypt_key_arns      = var.decrypt_key_arns
  metrics_workspace_arn = var.metrics_workspace_arn
  kms_key_arn           = var.kms_key_arn
  deletion_protection   = var.deletion_protection
  tags                  = var.tags
}
