# Where machines are, and how they get out.

mock_provider "aws" {
  source = "../../check/mocks"
}

variables {
  name        = "test"
  cidr        = "10.64.0.0/16"
  zones       = ["us-east-1a", "us-east-1b", "us-east-1c"]
  nat         = "single"
  kms_key_arn = "arn:aws:kms:us-east-1:123456789012:key/1"
}

run "no_subnet_gives_public_addresses" {
  command = plan
  assert {
    condition     = alltrue([for subnet in concat(values(aws_subnet.private), values(aws_subnet.public)) : !subnet.map_public_ip_on_launch])
    error_message = "no machine gets a public address by default"
  }
}

run "subnets_do_not_overlap" {
  command = plan
  assert {
    condition = length(distinct([for subnet in concat(values(aws_subnet.private), values(aws_subnet.public)) : subnet.cidr_block])) == 6 && alltrue([
      for public in aws_subnet.public : startswith(public.cidr_block, "10.64.22")
      ]) && alltrue([
      for private in aws_subnet.private : tonumber(split(".", private.cidr_block)[2]) + 32 <= 224
    ])
    error_message = "private subnets end before the public ones begin"
  }
}

run "nat_is_paid_for_once_or_in_each_zone" {
  command = plan
  assert {
    condition     = length(aws_nat_gateway.this) == 1 && length(aws_route.nat) == 3
    error_message = "with `single`, all zones go out through one gateway"
  }
}

run "nat_in_each_zone" {
  command = plan
  variables {
    nat = "per-zone"
  }
  assert {
    condition     = length(aws_nat_gateway.this) == 3 && length(aws_route.nat) == 3
    error_message = "with `per-zone`, each zone has a gateway"
  }
}

run "without_nat_there_is_no_way_to_the_internet" {
  command = plan
  variables {
    nat                 = "none"
    interface_endpoints = ["aps-workspaces", "ec2", "secretsmanager", "ssm", "ssmmessages", "sts"]
  }
  assert {
    condition     = length(aws_internet_gateway.this) == 0 && length(aws_subnet.public) == 0 && length(aws_route.nat) == 0 && length(aws_vpc_endpoint.interface) == 6
    error_message = "without NAT there are endpoints, and no internet gateway"
  }
}

run "without_nat_aws_must_be_reached_somehow" {
  command = plan
  variables {
    nat = "none"
  }
  expect_failures = [var.interface_endpoints]
}

run "weights_need_no_nat" {
  command = plan
  assert {
    condition     = aws_vpc_endpoint.s3.vpc_endpoint_type == "Gateway"
    error_message = "S3 is reached through its gateway, which costs nothing"
  }
}

run "a_small_network_is_refused" {
  command = plan
  variables {
    cidr = "10.64.0.0/20"
  }
  expect_failures = [var.cidr]
}
