# The autoscaler: a small machine, or two of which one leads, with a role that can buy and end machines of this
# fleet and do nothing to any other.

data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}

locals {
  ec2     = "arn:${data.aws_partition.current.partition}:ec2"
  account = data.aws_caller_identity.current.account_id
  # What a launch makes: each carries the fleet's tag from its first moment, or is not made.
  made = ["instance", "network-interface", "volume"]
  # What it is made from, besides what has a variable.
  images    = [for region, ami in var.ami_ids : "${local.ec2}:${region}::image/${ami}"]
  snapshots = [for region in var.regions : "${local.ec2}:${region}::snapshot/*"]
}

data "aws_iam_policy_document" "fleet" {
  # checkov:skip=CKV_AWS_356: reading what EC2 has knows no resources; everything that changes something is bound to the fleet's tag or to named resources

  statement {
    sid = "Observe"
    actions = [
      "ec2:DescribeImages", "ec2:DescribeInstanceTypeOfferings", "ec2:DescribeInstanceTypes", "ec2:DescribeInstances",
      "ec2:DescribeLaunchTemplateVersions", "ec2:DescribeSpotPriceHistory", "ec2:DescribeSubnets",
      "servicequotas:GetServiceQuota",
    ]
    resources = ["*"]
    condition {
      test     = "StringEquals"
      variable = "aws:RequestedRegion"
      values   = var.regions
    }
  }

  statement {
    sid       = "LaunchWithTheFleetsTag"
    actions   = ["ec2:CreateFleet", "ec2:RunInstances"]
    resources = [for kind in local.made : "${local.ec2}:*:${local.account}:${kind}/*"]
    condition {
      test     = "StringEquals"
      variable = "aws:RequestTag/stoker:fleet"
      values   = [var.name]
    }
    condition {
      test     = "StringEquals"
      variable = "aws:RequestedRegion"
      values   = var.regions
    }
  }

  # Nothing boots but from the fleet's templates. Snapshots are those of the images.
  statement {
    sid       = "LaunchFromTheFleetsTemplates"
    actions   = ["ec2:RunInstances"]
    resources = concat(var.launch_template_arns, var.subnet_arns, local.snapshots)
    condition {
      test     = "ArnLike"
      variable = "ec2:LaunchTemplate"
      values   = var.launch_template_arns
    }
  }

  # A launch names a type and a subnet of its own. What boots, and who may connect to it, is the template's to say.
  statement {
    sid       = "LaunchWhatTheTemplateSays"
    actions   = ["ec2:RunInstances"]
    resources = concat(var.security_group_arns, local.images)
    condition {
      test     = "ArnLike"
      variable = "ec2:LaunchTemplate"
      values   = var.launch_template_arns
    }
    condition {
      test     = "Bool"
      variable = "ec2:IsLaunchTemplateResource"
      values   = ["true"]
    }
  }

  # The call that launches asks for the same things by itself, and has no key for the template: that is one of its resources. The record of a
  # launch (`fleet`) costs and does nothing.
  statement {
    sid     = "AskForTheFleetsTemplates"
    actions = ["ec2:CreateFleet"]
    resources = concat(
      var.launch_template_arns, var.subnet_arns, var.security_group_arns, local.images, local.snapshots,
      [for region in var.regions : "${local.ec2}:${region}:${local.account}:fleet/*"],
    )
  }

  # It takes no tags from a template that on-demand capacity shares, so it cannot be bound to one.
  statement {
    sid       = "RequestSpotCapacity"
    actions   = ["ec2:CreateFleet", "ec2:RunInstances"]
    resources = [for region in var.regions : "${local.ec2}:${region}:${local.account}:spot-instances-request/*"]
  }

  statement {
    sid       = "TagAtLaunchOnly"
    actions   = ["ec2:CreateTags"]
    resources = [for kind in local.made : "${local.ec2}:*:${local.account}:${kind}/*"]
    condition {
      test     = "StringEquals"
      variable = "ec2:CreateAction"
      values   = ["CreateFleet", "RunInstances"]
    }
    condition {
      test     = "StringEquals"
      variable = "aws:RequestTag/stoker:fleet"
      values   = [var.name]
    }
  }

  # Workers alone have a pool: coordinators, brokers and the autoscaler itself are out of reach.
  statement {
    sid       = "EndTheFleetsWorkers"
    actions   = ["ec2:TerminateInstances"]
    resources = ["${local.ec2}:*:${local.account}:instance/*"]
    condition {
      test     = "StringEquals"
      variable = "ec2:ResourceTag/stoker:fleet"
      values   = [var.name]
    }
    condition {
      test     = "StringLike"
      variable = "ec2:ResourceTag/stoker:pool"
      values   = ["?*"]
    }
  }

  statement {
    sid       = "GiveWorkersTheirRole"
    actions   = ["iam:PassRole"]
    resources = var.worker_role_arns
    condition {
      test     = "StringEquals"
      variable = "iam:PassedToService"
      values   = ["ec2.amazonaws.com"]
    }
  }
}

resource "aws_iam_service_linked_role" "spot" {
  count = var.create_spot_role ? 1 : 0

  aws_service_name = "spot.amazonaws.com"
  description      = "Lets EC2 launch and end spot capacity"
}

resource "aws_security_group" "this" {
  # checkov:skip=CKV2_AWS_5: the launch template of the module `host` attaches it
  name_prefix = "stoker-${var.name}-autoscaler-"
  description = "The autoscaler: nothing comes in"
  vpc_id      = var.vpc_id
  tags        = merge(var.tags, { Name = "stoker-${var.name}-autoscaler" })

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_vpc_security_group_egress_rule" "https" {
  security_group_id = aws_security_group.this.id
  description       = "AWS"
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
}

resource "aws_vpc_security_group_egress_rule" "coordinator" {
  security_group_id = aws_security_group.this.id
  description       = "The coordinator's tunnel"
  cidr_ipv4         = var.vpc_cidr
  ip_protocol       = "tcp"
  from_port         = var.coordinator_port
  to_port           = var.coordinator_port
}

module "host" {
  source = "../host"

  name                  = var.name
  role                  = "autoscaler"
  ami_id                = var.ami_ids[var.regions[0]]
  instance_type         = var.instance_type
  settings              = var.settings
  security_group_ids    = [aws_security_group.this.id]
  policies              = { fleet = data.aws_iam_policy_document.fleet.json }
  secret_arns           = var.secret_arns
  bucket_arn            = var.bucket_arn
  decrypt_key_arns      = var.decrypt_key_arns
  metrics_workspace_arn = var.metrics_workspace_arn
  kms_key_arn           = var.kms_key_arn
  tags                  = var.tags
}

resource "aws_autoscaling_group" "this" {
  name_prefix               = "stoker-${var.name}-autoscaler-"
  min_size                  = var.instances
  max_size                  = var.instances + 1
  desired_capacity          = var.instances
  vpc_zone_identifier       = var.subnet_ids
  health_check_type         = "EC2"
  health_check_grace_period = 300

  launch_template {
    id      = module.host.launch_templates[""].id
    version = module.host.launch_templates[""].version
  }

  instance_refresh {
    strategy = "Rolling"
    preferences {
      min_healthy_percentage = 0
      instance_warmup        = 60
    }
  }

  dynamic "tag" {
    for_each = merge(var.tags, { Name = "stoker-${var.name}-autoscaler" })
    content {
      key                 = tag.key
      value               = tag.value
      propagate_at_launch = true
    }
  }
}
