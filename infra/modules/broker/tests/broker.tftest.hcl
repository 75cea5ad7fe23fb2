# The queue.

mock_provider "aws" {
  source = "../../check/mocks"
}

variables {
  name                  = "test"
  kind                  = "amazon-mq"
  engine_version        = "4.2"
  instance_type         = "mq.m7g.medium"
  highly_available      = false
  vpc_id                = "vpc-0123456789abcdef0"
  subnet_ids            = ["subnet-0123456789abcdef0", "subnet-0123456789abcdef1", "subnet-0123456789abcdef2"]
  client_cidrs          = ["10.64.0.0/16"]
  ami_id                = "ami-0123456789abcdef0"
  settings              = { BOOT_FLEET = "test" }
  bucket_arn            = "arn:aws:s3:::stoker-bucket"
  decrypt_key_arns      = ["arn:aws:kms:us-east-1:123456789012:key/1"]
  metrics_workspace_arn = "arn:aws:aps:us-east-1:123456789012:workspace/ws-1"
  kms_key_arn           = "arn:aws:kms:us-east-1:123456789012:key/1"
  deletion_protection   = true
}

run "private_and_over_tls" {
  assert {
    condition     = !aws_mq_broker.this[0].publicly_accessible
    error_message = "the broker is not public"
  }
  assert {
    condition     = alltrue([for rule in aws_vpc_security_group_ingress_rule.clients : rule.from_port == 5671 && rule.to_port == 5671])
    error_message = "clients come in on the port of AMQP over TLS only"
  }
  assert {
    condition     = startswith(jsondecode(aws_secretsmanager_secret_version.uri.secret_string).uri, "amqps://stoker:") && endswith(jsondecode(aws_secretsmanager_secret_version.uri.secret_string).uri, "@b-1.mq.us-east-1.on.aws:5671/%2f")
    error_message = "the URI is one that coordinator and worker understand"
  }
}

run "three_nodes_when_asked" {
  command = plan
  variables {
    highly_available = true
  }
  assert {
    condition     = aws_mq_broker.this[0].deployment_mode == "CLUSTER_MULTI_AZ" && length(aws_mq_broker.this[0].subnet_ids) == 3
    error_message = "a highly available broker has nodes in three zones"
  }
}

run "the_internet_is_refused" {
  command = plan
  variables {
    client_cidrs = ["0.0.0.0/0"]
  }
  expect_failures = [var.client_cidrs]
}

run "rabbitmq_4_needs_m7g" {
  command = plan
  variables {
    instance_type = "mq.m5.large"
  }
  expect_failures = [var.instance_type]
}

run "a_cluster_needs_a_certificate" {
  command = plan
  variables {
    kind          = "cluster"
    instance_type = "m7i.large"
  }
  expect_failures = [var.tls_secret_arn]
}

run "a_cluster_is_found_by_the_name_in_its_certificate" {
  variables {
    kind           = "cluster"
    instance_type  = "m7i.large"
    tls_secret_arn = "arn:aws:secretsmanager:us-east-1:123456789012:secret:broker-tls-AbCdEf"
  }
  assert {
    condition     = strcontains(jsondecode(aws_secretsmanager_secret_version.uri.secret_string).uri, "@broker.test.stoker.internal:5671/")
    error_message = "clients connect to the name that the certificate has"
  }
}
