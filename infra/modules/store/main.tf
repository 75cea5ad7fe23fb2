# The jobs: a Postgres that syncs before it answers, keeps copies, and speaks TLS only. RDS makes the password,
# keeps it in Secrets Manager and changes it; Terraform never sees it.

locals {
  major = split(".", var.engine_version)[0]
}

resource "aws_db_subnet_group" "this" {
  name_prefix = "stoker-${var.name}-"
  subnet_ids  = var.subnet_ids
  tags        = var.tags
}

resource "aws_security_group" "this" {
  name_prefix = "stoker-${var.name}-store-"
  description = "The store, for coordinators"
  vpc_id      = var.vpc_id
  tags        = merge(var.tags, { Name = "stoker-${var.name}-store" })

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_vpc_security_group_ingress_rule" "coordinator" {
  security_group_id            = aws_security_group.this.id
  description                  = "Postgres over TLS, from coordinators"
  referenced_security_group_id = var.coordinator_security_group_id
  ip_protocol                  = "tcp"
  from_port                    = 5432
  to_port                      = 5432
}

resource "aws_db_parameter_group" "this" {
  name_prefix = "stoker-${var.name}-"
  family      = "postgres${local.major}"
  description = "Stoker fleet ${var.name}"
  tags        = var.tags

  # An accepted job is on disk. RDS always has fsync on; the coordinator checks both when it starts.
  parameter {
    name  = "synchronous_commit"
    value = "on"
  }

  parameter {
    name  = "rds.force_ssl"
    value = "1"
  }

  # Statements carry no inputs of jobs as literals, and only changes of the schema are logged.
  parameter {
    name  = "log_statement"
    value = "ddl"
  }

  parameter {
    name  = "log_min_duration_statement"
    value = "1000"
  }

  lifecycle {
    create_before_destroy = true
  }
}

data "aws_iam_policy_document" "monitoring_assume" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["monitoring.rds.amazonaws.com"]
    }
  }
}

data "aws_partition" "current" {}

resource "aws_iam_role" "monitoring" {
  name_prefix        = "stoker-${var.name}-store-"
  assume_role_policy = data.aws_iam_policy_document.monitoring_assume.json
  tags               = var.tags
}

resource "aws_iam_role_policy_attachment" "monitoring" {
  role       = aws_iam_role.monitoring.name
  policy_arn = "arn:${data.aws_partition.current.partition}:iam::aws:policy/service-role/AmazonRDSEnhancedMonitoringRole"
}

resource "aws_db_instance" "this" {
  # checkov:skip=CKV_AWS_157: a standby doubles the price; `dev` goes without, `prod` has one (tested in infra/environments/prod)
  # checkov:skip=CKV_AWS_293: `dev` must be easy to destroy; `prod` is protected (tested as above)
  # checkov:skip=CKV_AWS_161: coordinators log in with the password of Secrets Manager; RDS's own tokens end after 15 minutes, and the driver renews none
  identifier_prefix     = "stoker-${var.name}-"
  engine                = "postgres"
  engine_version        = var.engine_version
  instance_class        = var.instance_class
  db_name               = "stoker"
  port                  = 5432
  multi_az              = var.multi_az
  db_subnet_group_name  = aws_db_subnet_group.this.name
  parameter_group_name  = aws_db_parameter_group.this.name
  publicly_accessible   = false
  network_type          = "IPV4"
  ca_cert_identifier    = "rds-ca-rsa2048-g1"
  copy_tags_to_snapshot = true

  vpc_security_group_ids = [aws_security_group.this.id]

  username                      = "stoker"
  manage_master_user_password   = true
  master_user_secret_kms_key_id = var.kms_key_arn

  storage_type          = "gp3"
  allocated_storage     = var.storage_gb
  max_allocated_storage = var.storage_gb * 4
  storage_encrypted     = true
  kms_key_id            = var.kms_key_arn

  backup_retention_period   = var.backup_days
  backup_window             = "03:00-03:30"
  maintenance_window        = "sun:04:00-sun:05:00"
  delete_automated_backups  = !var.deletion_protection
  deletion_protection       = var.deletion_protection
  skip_final_snapshot       = !var.deletion_protection
  final_snapshot_identifier = var.deletion_protection ? "stoker-${var.name}-final" : null

  auto_minor_version_upgrade      = true
  allow_major_version_upgrade     = false
  apply_immediately               = !var.deletion_protection
  enabled_cloudwatch_logs_exports = ["postgresql", "upgrade"]

  monitoring_interval             = 60
  monitoring_role_arn             = aws_iam_role.monitoring.arn
  performance_insights_enabled    = true
  performance_insights_kms_key_id = var.kms_key_arn

  tags = var.tags
}
