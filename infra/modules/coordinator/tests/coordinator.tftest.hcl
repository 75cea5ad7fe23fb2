# The only way in.

mock_provider "aws" {
  source = "../../check/mocks"
}

variables {
  name                  = "test"
  instances             = 2
  instance_type         = "t3.small"
  ami_id                = "ami-0123456789abcdef0"
  vpc_id                = "vpc-0123456789abcdef0"
  vpc_cidr              = "10.64.0.0/16"
  subnet_ids            = ["subnet-0123456789abcdef0", "subnet-0123456789abcdef1"]
  client_cidrs          = ["10.64.0.0/16"]
  settings              = { BOOT_FLEET = "test" }
  secret_arns           = ["arn:aws:secretsmanager:us-east-1:123456789012:secret:store-AbCdEf"]
  bucket_arn            = "arn:aws:s3:::stoker-bucket"
  decrypt_key_arns      = ["arn:aws:kms:us-east-1:123456789012:key/1"]
  metrics_workspace_arn = "arn:aws:aps:us-east-1:123456789012:workspace/ws-1"
  kms_key_arn           = "arn:aws:kms:us-east-1:123456789012:key/1"
  deletion_protection   = true
}

run "there_is_no_public_endpoint_unless_somebody_asks" {
  command = plan
  assert {
    condition     = keys(aws_lb.this) == ["internal"] && aws_lb.this["internal"].internal && length(aws_vpc_security_group_ingress_rule.public) == 0
    error_message = "by default the only load balancer is internal"
  }
  assert {
    condition     = alltrue([for rule in aws_vpc_security_group_ingress_rule.fleet : rule.cidr_ipv4 == "10.64.0.0/16"])
    error_message = "the fleet's networks come in, and nobody else"
  }
}

run "machines_are_reached_through_the_balancer_only" {
  command = plan
  assert {
    condition     = alltrue([for rule in aws_vpc_security_group_ingress_rule.coordinator : rule.cidr_ipv4 == null && contains([7443, 7071], rule.from_port)])
    error_message = "a coordinator takes the tunnel and health checks, from load balancers"
  }
}

run "an_endpoint_for_a_network_that_was_named" {
  command = plan
  variables {
    endpoint_cidrs    = ["203.0.113.0/24"]
    public_subnet_ids = ["subnet-0123456789abcdef2", "subnet-0123456789abcdef3"]
  }
  assert {
    condition     = !aws_lb.this["public"].internal && [for rule in aws_vpc_security_group_ingress_rule.public : rule.cidr_ipv4] == ["203.0.113.0/24"]
    error_message = "the public endpoint is for the network that was named"
  }
}

run "an_endpoint_needs_public_subnets" {
  command = plan
  variables {
    endpoint_cidrs = ["203.0.113.0/24"]
  }
  expect_failures = [var.public_subnet_ids]
}

run "the_internet_is_no_network_of_the_fleet" {
  command = plan
  variables {
    client_cidrs = ["0.0.0.0/0"]
  }
  expect_failures = [var.client_cidrs]
}

run "each_party_has_a_key_of_its_own" {
  assert {
    condition     = toset(keys(output.tunnel_secret_arns)) == toset(["worker", "autoscaler", "operator"])
    error_message = "a key can be taken from one party without the others"
  }
  assert {
    condition     = toset(keys(output.token_secret_arns)) == toset(["autoscaler", "operator"])
    error_message = "workers have no token that changes the fleet"
  }
}

run "a_replacement_is_ready_before_the_old_one_goes" {
  command = plan
  assert {
    condition     = aws_autoscaling_group.this.instance_refresh[0].preferences[0].min_healthy_percentage == 100 && aws_autoscaling_group.this.health_check_type == "ELB"
    error_message = "an upgrade never has fewer coordinators that are ready than before"
  }
}
