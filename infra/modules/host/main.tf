# How every machine of a fleet is launched: with the second version of the metadata service only, an encrypted
# disk, no public address, no key pair, and a role that may do what its part needs. People come in through
# Session Manager.

data "aws_partition" "current" {}
data "aws_region" "current" {}

locals {
  full_name = "stoker-${var.name}-${var.role}"
  tags      = merge(var.tags, { Name = local.full_name, "stoker:role" = var.role })
}

data "aws_iam_policy_document" "assume" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["ec2.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "this" {
  name_prefix        = "${substr(local.full_name, 0, 37)}-"
  assume_role_policy = data.aws_iam_policy_document.assume.json
  tags               = var.tags
}

# What Session Manager and Run Command need, and no more: the managed policy for it may also read every
# parameter of the account.
data "aws_iam_policy_document" "session" {
  # checkov:skip=CKV_AWS_111: these actions know no resources; each concerns the machine that calls it
  # checkov:skip=CKV_AWS_356: as above
  statement {
    actions = [
      "ec2messages:AcknowledgeMessage", "ec2messages:DeleteMessage", "ec2messages:FailMessage",
      "ec2messages:GetEndpoint", "ec2messages:GetMessages", "ec2messages:SendReply",
      "ssm:UpdateInstanceInformation",
      "ssmmessages:CreateControlChannel", "ssmmessages:CreateDataChannel",
      "ssmmessages:OpenControlChannel", "ssmmessages:OpenDataChannel",
    ]
    resources = ["*"]
  }
}

resource "aws_iam_role_policy" "session" {
  name   = "session-manager"
  role   = aws_iam_role.this.id
  policy = data.aws_iam_policy_document.session.json
}

data "aws_iam_policy_document" "boot" {
  statement {
    sid       = "Secrets"
    actions   = ["secretsmanager:DescribeSecret", "secretsmanager:GetSecretValue"]
    resources = var.secret_arns
  }
  statement {
    sid       = "Objects"
    actions   = ["s3:GetObject"]
    resources = [for prefix in var.object_prefixes : "${var.bucket_arn}/${prefix}*"]
  }
  statement {
    sid       = "ListObjects"
    actions   = ["s3:ListBucket"]
    resources = [var.bucket_arn]
    condition {
      test     = "StringLike"
      variable = "s3:prefix"
      values   = [for prefix in var.object_prefixes : "${prefix}*"]
    }
  }
  statement {
    sid       = "Decrypt"
    actions   = ["kms:Decrypt"]
    resources = var.decrypt_key_arns
    condition {
      test     = "StringLike"
      variable = "kms:ViaService"
      values   = ["s3.*.amazonaws.com", "secretsmanager.*.amazonaws.com"]
    }
  }
  dynamic "statement" {
    for_each = var.metrics_workspace_arn == null ? [] : [var.metrics_workspace_arn]
    content {
      sid       = "Metrics"
      actions   = ["aps:RemoteWrite"]
      resources = [statement.value]
    }
  }
}

resource "aws_iam_role_policy" "boot" {
  name   = "boot"
  role   = aws_iam_role.this.id
  policy = data.aws_iam_policy_document.boot.json
}

resource "aws_iam_role_policy" "part" {
  for_each = var.policies

  name   = each.key
  role   = aws_iam_role.this.id
  policy = each.value
}

resource "aws_iam_instance_profile" "this" {
  name_prefix = "${substr(local.full_name, 0, 37)}-"
  role        = aws_iam_role.this.name
  tags        = var.tags
}

resource "aws_launch_template" "this" {
  for_each = var.variants

  name                                 = "${local.full_name}${each.key == "" ? "" : "-${each.key}"}"
  description                          = "Stoker fleet ${var.name}: ${var.role} ${each.key}"
  image_id                             = var.ami_id
  instance_type                        = var.instance_type
  instance_initiated_shutdown_behavior = "terminate"
  update_default_version               = true
  ebs_optimized                        = true
  user_data = base64encode(templatefile("${path.module}/user-data.yaml.tftpl", {
    role     = var.role
    settings = merge(var.settings, each.value)
  }))
  tags = local.tags

  iam_instance_profile {
    arn = aws_iam_instance_profile.this.arn
  }

  # One hop: what runs in a container of the machine, or is fooled into asking, gets no answer.
  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
    instance_metadata_tags      = "enabled"
  }

  network_interfaces {
    device_index                = 0
    associate_public_ip_address = false
    delete_on_termination       = true
    security_groups             = var.security_group_ids
  }

  block_device_mappings {
    device_name = "/dev/xvda"
    ebs {
      volume_type                = "gp3"
      volume_size                = var.disk_gb
      encrypted                  = true
      kms_key_id                 = var.kms_key_arn
      delete_on_termination      = true
      volume_initialization_rate = var.disk_initialization_rate
    }
  }

  monitoring {
    enabled = false
  }

  # Not `spot-instances-request`: with it, launches of on-demand capacity from the same template are refused.
  dynamic "tag_specifications" {
    for_each = toset(["instance", "volume", "network-interface"])
    content {
      resource_type = tag_specifications.value
      tags          = merge(local.tags, can(each.value.BOOT_POOL) ? { "stoker:pool" = each.value.BOOT_POOL } : {})
    }
  }
}
