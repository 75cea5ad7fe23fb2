# How every machine is launched.

mock_provider "aws" {
  source = "../../check/mocks"
}

variables {
  name               = "test"
  role               = "worker"
  ami_id             = "ami-0123456789abcdef0"
  variants           = { gpu = { BOOT_POOL = "gpu" }, plain = {} }
  settings           = { BOOT_FLEET = "test", BOOT_HOME_REGION = "us-east-1" }
  security_group_ids = ["sg-0123456789abcdef0"]
  secret_arns        = ["arn:aws:secretsmanager:us-east-1:123456789012:secret:stoker/test-AbCdEf"]
  bucket_arn         = "arn:aws:s3:::stoker-bucket"
  decrypt_key_arns   = ["arn:aws:kms:us-east-1:123456789012:key/1"]
  kms_key_arn        = "arn:aws:kms:us-east-1:123456789012:key/1"
  tags               = { "stoker:fleet" = "test" }
}

run "metadata_needs_a_token_and_goes_one_hop" {
  command = plan
  assert {
    condition = alltrue([
      for template in aws_launch_template.this :
      template.metadata_options[0].http_tokens == "required" && template.metadata_options[0].http_put_response_hop_limit == 1
    ])
    error_message = "IMDSv2 is required, with a hop limit of 1"
  }
}

run "no_way_in_but_session_manager" {
  command = plan
  assert {
    condition = alltrue([
      for template in aws_launch_template.this :
      template.key_name == null && template.network_interfaces[0].associate_public_ip_address == "false"
    ])
    error_message = "a machine has no key pair and no public address"
  }
  assert {
    condition     = contains(tolist(data.aws_iam_policy_document.session.statement)[0].actions, "ssmmessages:OpenDataChannel")
    error_message = "people come in through Session Manager"
  }
}

run "disks_are_encrypted_and_end_with_the_machine" {
  command = plan
  assert {
    condition = alltrue([
      for template in aws_launch_template.this :
      template.block_device_mappings[0].ebs[0].encrypted == "true"
      && template.block_device_mappings[0].ebs[0].volume_type == "gp3"
      && template.block_device_mappings[0].ebs[0].delete_on_termination == "true"
      && template.block_device_mappings[0].ebs[0].kms_key_id == var.kms_key_arn
    ])
    error_message = "disks are gp3, encrypted with the fleet's key, and deleted with the machine"
  }
  assert {
    condition     = alltrue([for template in aws_launch_template.this : template.instance_initiated_shutdown_behavior == "terminate"])
    error_message = "a machine that shuts itself down is gone: that is the dead man's switch"
  }
}

run "what_is_launched_says_whose_it_is" {
  command = plan
  assert {
    condition = alltrue(flatten([
      for template in aws_launch_template.this : [for specification in template.tag_specifications : specification.tags["stoker:fleet"] == "test"]
    ]))
    error_message = "instances, volumes and network interfaces carry the fleet's tag"
  }
  assert {
    condition = alltrue([
      for template in aws_launch_template.this :
      toset([for specification in template.tag_specifications : specification.resource_type]) == toset(["instance", "volume", "network-interface"])
    ])
    error_message = "spot-instances-request must not be tagged: on-demand launches from the template would fail"
  }
  assert {
    condition = (
      alltrue([for specification in aws_launch_template.this["gpu"].tag_specifications : specification.tags["stoker:pool"] == "gpu"])
      && alltrue([for specification in aws_launch_template.this["plain"].tag_specifications : !can(specification.tags["stoker:pool"])])
    )
    error_message = "workers, and they alone, carry their pool: the autoscaler may end what does"
  }
}

run "user_data_fits_and_holds_no_secret" {
  command = plan
  assert {
    condition     = alltrue([for template in aws_launch_template.this : length(base64decode(template.user_data)) < 16384 && startswith(base64decode(template.user_data), "#cloud-config\n")])
    error_message = "user data is a cloud-config of at most 16 KB"
  }
  assert {
    condition     = strcontains(base64decode(aws_launch_template.this["gpu"].user_data), "BOOT_POOL=gpu")
    error_message = "a worker learns its pool"
  }
}

run "secrets_are_named_one_by_one" {
  command = plan
  assert {
    condition = alltrue([
      for statement in data.aws_iam_policy_document.boot.statement :
      !contains(statement.resources, "*") if contains(["Secrets", "Objects", "Decrypt"], statement.sid)
    ])
    error_message = "a machine reads its own secrets and objects only"
  }
}

run "settings_that_a_shell_would_run_are_refused" {
  command = plan
  variables {
    settings = { BOOT_FLEET = "x;reboot" }
  }
  expect_failures = [var.settings]
}
