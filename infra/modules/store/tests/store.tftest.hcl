# The store keeps what it has accepted.

mock_provider "aws" {
  source = "../../check/mocks"
}

variables {
  name                          = "test"
  vpc_id                        = "vpc-0123456789abcdef0"
  subnet_ids                    = ["subnet-0123456789abcdef0", "subnet-0123456789abcdef1"]
  coordinator_security_group_id = "sg-0123456789abcdef0"
  engine_version                = "17"
  instance_class                = "db.t4g.micro"
  multi_az                      = true
  storage_gb                    = 20
  backup_days                   = 7
  deletion_protection           = true
  kms_key_arn                   = "arn:aws:kms:us-east-1:123456789012:key/1"
}

run "a_commit_is_on_disk_and_the_wire_is_encrypted" {
  command = plan
  assert {
    condition = { for parameter in aws_db_parameter_group.this.parameter : parameter.name => parameter.value if contains(["synchronous_commit", "rds.force_ssl"], parameter.name) } == {
      synchronous_commit = "on"
      "rds.force_ssl"    = "1"
    }
    error_message = "synchronous_commit is on and TLS is forced"
  }
}

run "nobody_outside_sees_it" {
  command = plan
  assert {
    condition     = !aws_db_instance.this.publicly_accessible && aws_vpc_security_group_ingress_rule.coordinator.cidr_ipv4 == null
    error_message = "the store is reached from the coordinators' security group only"
  }
}

run "encrypted_kept_and_protected" {
  command = plan
  assert {
    condition     = aws_db_instance.this.storage_encrypted && aws_db_instance.this.deletion_protection && !aws_db_instance.this.skip_final_snapshot && !aws_db_instance.this.delete_automated_backups
    error_message = "the store is encrypted, refuses to be deleted, and leaves a snapshot and its backups"
  }
  assert {
    condition     = aws_db_instance.this.manage_master_user_password && aws_db_instance.this.password == null
    error_message = "the password never comes near Terraform"
  }
}

run "an_old_postgres_is_refused" {
  command = plan
  variables {
    engine_version = "13.4"
  }
  expect_failures = [var.engine_version]
}

run "a_store_without_backups_is_refused" {
  command = plan
  variables {
    backup_days = 0
  }
  expect_failures = [var.backup_days]
}
