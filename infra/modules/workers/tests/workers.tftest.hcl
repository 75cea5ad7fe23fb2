# What workers are launched from.

mock_provider "aws" {
  source = "../../check/mocks"
}

variables {
  name                     = "test"
  pools                    = ["gpu", "cpu"]
  vpc_id                   = "vpc-0123456789abcdef0"
  home_cidr                = "10.64.0.0/16"
  coordinator_port         = 7443
  ami_id                   = "ami-0123456789abcdef0"
  settings                 = { BOOT_FLEET = "test" }
  secret_arns              = ["arn:aws:secretsmanager:us-east-1:123456789012:secret:stoker/test-AbCdEf"]
  bucket_arn               = "arn:aws:s3:::stoker-bucket"
  decrypt_key_arns         = ["arn:aws:kms:us-east-1:123456789012:key/1"]
  metrics_workspace_arn    = "arn:aws:aps:us-east-1:123456789012:workspace/ws-1"
  kms_key_arn              = "arn:aws:kms:us-east-1:123456789012:key/1"
  disk_gb                  = 40
  disk_initialization_rate = null
}

run "each_pool_has_a_template" {
  assert {
    condition     = toset(keys(output.launch_templates)) == toset(["gpu", "cpu"])
    error_message = "the autoscaler launches each pool from a template of its own"
  }
}

run "a_worker_talks_to_three_things" {
  command = plan
  assert {
    condition = toset([
      aws_vpc_security_group_egress_rule.https.from_port,
      aws_vpc_security_group_egress_rule.coordinator.from_port,
      aws_vpc_security_group_egress_rule.broker.from_port,
    ]) == toset([443, 7443, 5671])
    error_message = "AWS, the coordinator's tunnel and the broker, all over TLS"
  }
}

run "a_pool_that_no_fleet_file_can_have_is_refused" {
  command = plan
  variables {
    pools = ["GPU pool"]
  }
  expect_failures = [var.pools]
}
