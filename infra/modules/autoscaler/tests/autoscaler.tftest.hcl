# What the autoscaler may do.

mock_provider "aws" {
  source = "../../check/mocks"
}

variables {
  name                  = "test"
  regions               = ["us-east-1"]
  instances             = 1
  instance_type         = "t3.micro"
  ami_ids               = { us-east-1 = "ami-0123456789abcdef0" }
  vpc_id                = "vpc-0123456789abcdef0"
  vpc_cidr              = "10.64.0.0/16"
  subnet_ids            = ["subnet-0123456789abcdef0"]
  coordinator_port      = 7443
  launch_template_arns  = ["arn:aws:ec2:us-east-1:123456789012:launch-template/lt-0123456789abcdef0"]
  subnet_arns           = ["arn:aws:ec2:us-east-1:123456789012:subnet/subnet-0123456789abcdef0"]
  security_group_arns   = ["arn:aws:ec2:us-east-1:123456789012:security-group/sg-0123456789abcdef0"]
  worker_role_arns      = ["arn:aws:iam::123456789012:role/stoker-test-worker"]
  create_spot_role      = false
  settings              = { BOOT_FLEET = "test" }
  secret_arns           = ["arn:aws:secretsmanager:us-east-1:123456789012:secret:stoker/test-AbCdEf"]
  bucket_arn            = "arn:aws:s3:::stoker-bucket"
  decrypt_key_arns      = ["arn:aws:kms:us-east-1:123456789012:key/1"]
  metrics_workspace_arn = "arn:aws:aps:us-east-1:123456789012:workspace/ws-1"
  kms_key_arn           = "arn:aws:kms:us-east-1:123456789012:key/1"
}

run "launches_carry_the_fleets_tag" {
  command = plan
  assert {
    condition = alltrue([
      for statement in data.aws_iam_policy_document.fleet.statement :
      anytrue([for condition in statement.condition : condition.variable == "aws:RequestTag/stoker:fleet" && tolist(condition.values) == tolist(["test"])])
      if contains(statement.actions, "ec2:RunInstances") && anytrue([for resource in statement.resources : endswith(resource, ":instance/*")])
    ])
    error_message = "an instance without the fleet's tag must not be launched"
  }
}

run "nothing_boots_but_from_the_fleets_templates" {
  command = plan
  assert {
    condition = alltrue([
      for statement in data.aws_iam_policy_document.fleet.statement :
      anytrue([
        for condition in statement.condition :
        condition.variable == "ec2:LaunchTemplate" && tolist(condition.values) == tolist(var.launch_template_arns)
      ])
      if contains(statement.actions, "ec2:RunInstances") && anytrue([
        for resource in statement.resources : strcontains(resource, ":image/") || strcontains(resource, ":launch-template/")
      ])
    ])
    error_message = "without a template of the fleet, or with another, nothing must be launched"
  }
  assert {
    condition = alltrue([
      for statement in data.aws_iam_policy_document.fleet.statement :
      anytrue([for condition in statement.condition : condition.variable == "ec2:IsLaunchTemplateResource" && tolist(condition.values) == tolist(["true"])])
      if contains(statement.actions, "ec2:RunInstances") && anytrue([
        for resource in statement.resources : strcontains(resource, ":image/") || strcontains(resource, ":security-group/")
      ])
    ])
    error_message = "a launch must not put another image or another security group in the template's place"
  }
}

run "it_reads_what_it_needs_and_no_more" {
  command = plan
  assert {
    condition = toset(flatten([
      for statement in data.aws_iam_policy_document.fleet.statement : statement.actions if contains(statement.resources, "*")
      ])) == toset([
      "ec2:DescribeImages", "ec2:DescribeInstanceTypeOfferings", "ec2:DescribeInstanceTypes", "ec2:DescribeInstances",
      "ec2:DescribeLaunchTemplateVersions", "ec2:DescribeSpotPriceHistory", "ec2:DescribeSubnets", "servicequotas:GetServiceQuota",
    ])
    error_message = "these are the reads that cloud::ec2 makes; a call that is added there is added here"
  }
}

run "only_workers_of_this_fleet_are_ended" {
  command = plan
  assert {
    condition = alltrue([
      for statement in data.aws_iam_policy_document.fleet.statement :
      toset([for condition in statement.condition : condition.variable]) == toset(["ec2:ResourceTag/stoker:fleet", "ec2:ResourceTag/stoker:pool"])
      if contains(statement.actions, "ec2:TerminateInstances")
    ])
    error_message = "what has no pool of this fleet must not be ended"
  }
}

run "tags_are_written_at_launch_only" {
  command = plan
  assert {
    condition = alltrue([
      for statement in data.aws_iam_policy_document.fleet.statement :
      anytrue([for condition in statement.condition : condition.variable == "ec2:CreateAction"])
      if contains(statement.actions, "ec2:CreateTags")
    ])
    error_message = "a tag on a running machine would make it the fleet's, to be ended"
  }
}

run "only_the_workers_role_is_passed" {
  command = plan
  assert {
    condition = alltrue([
      for statement in data.aws_iam_policy_document.fleet.statement :
      tolist(statement.resources) == tolist(var.worker_role_arns) if contains(statement.actions, "iam:PassRole")
    ])
    error_message = "another role could do more than the autoscaler itself"
  }
}

run "changes_are_never_allowed_everywhere" {
  command = plan
  assert {
    condition = alltrue([
      for statement in data.aws_iam_policy_document.fleet.statement :
      alltrue([for action in statement.actions : can(regex(":(Describe|Get|List)", action))])
      if contains(statement.resources, "*")
    ])
    error_message = "with all resources, only reading is allowed"
  }
  assert {
    condition     = alltrue(flatten([for statement in data.aws_iam_policy_document.fleet.statement : [for action in statement.actions : !strcontains(action, "*")]]))
    error_message = "actions are named one by one"
  }
}


run "three_autoscalers_are_refused" {
  command = plan
  variables {
    instances = 3
  }
  expect_failures = [var.instances]
}
