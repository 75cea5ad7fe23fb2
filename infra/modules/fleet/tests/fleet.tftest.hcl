# What a fleet refuses, before anything is made.

mock_provider "aws" {
  source = "../../check/mocks"
}

mock_provider "aws" {
  alias  = "second"
  source = "../../check/mocks"
}

mock_provider "aws" {
  alias  = "third"
  source = "../../check/mocks"
}

variables {
  name       = "test"
  fleet_toml = "fleet = \"test\"\n[pools.default]\nmodels = [\"echo\"]\n"
  pools      = ["default"]
  regions = [
    { name = "us-east-1", zones = ["us-east-1a", "us-east-1b"], cidr = "10.64.0.0/16", ami_id = "ami-0123456789abcdef0" },
  ]
  store               = { instance_class = "db.t4g.micro", multi_az = false }
  broker              = { instance_type = "mq.m7g.medium", highly_available = false, memory_alarm_bytes = 1400000000 }
  coordinator         = { instances = 1, instance_type = "t3.small" }
  autoscaler          = { instances = 1, instance_type = "t3.micro" }
  budget              = { monthly_usd = 500 }
  emails              = ["oncall@example.com"]
  deletion_protection = false
}

run "a_long_name" {
  command = plan
  variables {
    name       = "a-name-that-no-balancer-takes"
    fleet_toml = "fleet = \"a-name-that-no-balancer-takes\"\n[pools.default]\n"
  }
  expect_failures = [var.name]
}

run "the_file_of_another_fleet" {
  command = plan
  variables {
    fleet_toml = "fleet = \"other\"\n[pools.default]\n"
  }
  expect_failures = [var.fleet_toml]
}

run "a_file_that_names_the_provider_already" {
  command = plan
  variables {
    fleet_toml = "fleet = \"test\"\n[pools.default]\n[provider.local]\n"
  }
  expect_failures = [var.fleet_toml]
}

run "a_pool_that_is_not_in_the_file" {
  command = plan
  variables {
    pools = ["gpu"]
  }
  expect_failures = [var.pools]
}

run "regions_with_the_same_addresses" {
  command = plan
  variables {
    regions = [
      { name = "us-east-1", zones = ["us-east-1a", "us-east-1b"], cidr = "10.64.0.0/16", ami_id = "ami-0123456789abcdef0" },
      { name = "us-west-2", zones = ["us-west-2a", "us-west-2b"], cidr = "10.64.0.0/16", ami_id = "ami-0123456789abcdef1" },
    ]
  }
  expect_failures = [var.regions]
}

run "a_further_region_without_a_way_home" {
  command = plan
  variables {
    regions = [
      { name = "us-east-1", zones = ["us-east-1a", "us-east-1b"], cidr = "10.64.0.0/16", ami_id = "ami-0123456789abcdef0" },
      {
        name = "us-west-2", zones = ["us-west-2a", "us-west-2b"], cidr = "10.65.0.0/16", ami_id = "ami-0123456789abcdef1"
        nat  = "none", interface_endpoints = ["aps-workspaces", "ec2", "secretsmanager", "ssm", "ssmmessages", "sts"]
      },
    ]
  }
  expect_failures = [var.regions]
}

run "a_zone_of_another_region" {
  command = plan
  variables {
    regions = [
      { name = "us-east-1", zones = ["us-east-1a", "us-west-2a"], cidr = "10.64.0.0/16", ami_id = "ami-0123456789abcdef0" },
    ]
  }
  expect_failures = [var.regions]
}

run "a_cluster_whose_certificate_nobody_knows" {
  command = plan
  variables {
    broker = { kind = "cluster", instance_type = "m7i.large", highly_available = true, memory_alarm_bytes = 1, tls_secret_arn = "arn:aws:secretsmanager:us-east-1:123456789012:secret:x" }
  }
  expect_failures = [var.broker]
}

run "certificates_that_are_none" {
  command = plan
  variables {
    identity_certificates_pem = "https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/regions-certs.html"
  }
  expect_failures = [var.identity_certificates_pem]
}
