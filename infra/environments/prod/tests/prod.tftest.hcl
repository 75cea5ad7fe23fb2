# `prod` as a whole, with everything that AWS would answer made up.

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
  name        = "test"
  fleet_file  = "../../check/fleet.toml"
  pools       = ["default"]
  emails      = ["oncall@example.com"]
  monthly_usd = 20000
  regions = [{
    name   = "us-east-1"
    zones  = ["us-east-1a", "us-east-1b", "us-east-1c"]
    cidr   = "10.64.0.0/16"
    ami_id = "ami-0123456789abcdef0"
  }]
}

run "nothing_that_holds_jobs_can_be_deleted" {
  assert {
    condition     = output.safety.store_protected && output.safety.way_in_protected && output.safety.bucket_kept && output.safety.store_snapshot
    error_message = "prod's store, load balancers and bucket refuse to be deleted, and the store leaves a snapshot"
  }
}

run "a_zone_may_be_lost" {
  assert {
    condition     = output.safety.store_standby && output.safety.broker_nodes == 3 && output.safety.coordinators >= 2
    error_message = "prod has a standby of the store, three nodes of the broker and two coordinators"
  }
}

run "a_join_token_is_enough_where_no_certificates_are_given" {
  command = plan
  assert {
    condition     = output.safety.machines_proven == null
    error_message = "workers need not prove their machine unless somebody gives AWS's certificates"
  }
}

run "workers_prove_that_they_run_on_machines_of_this_account" {
  command = plan
  variables {
    identity_certificates_file = "../../check/identity.pem"
  }
  assert {
    condition     = output.safety.machines_proven == "123456789012"
    error_message = "with AWS's certificates, workers have to run on machines of the account"
  }
}

run "certificates_that_are_not_there" {
  command = plan
  variables {
    identity_certificates_file = "../../check/no-such-file.pem"
  }
  expect_failures = [var.identity_certificates_file]
}

run "budget_alerts_at_80_percent" {
  assert {
    condition     = contains(keys(output.safety.budget_alerts), "ACTUAL 80")
    error_message = "mail goes out at 80 % of the month's budget"
  }
}

run "one_coordinator_is_not_production" {
  command = plan
  variables {
    coordinator = { instances = 1 }
  }
  expect_failures = [var.coordinator]
}

run "a_cluster_of_ones_own" {
  variables {
    broker = {
      kind           = "cluster"
      instance_type  = "m7i.large"
      tls_secret_arn = "arn:aws:secretsmanager:us-east-1:123456789012:secret:broker-tls-AbCdEf"
      ca_pem         = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
    }
  }
  assert {
    condition     = output.safety.broker_nodes == 3
    error_message = "a cluster has three nodes"
  }
}

run "protection_can_be_lifted_on_purpose" {
  variables {
    deletion_protection = false
  }
  assert {
    condition     = !output.safety.store_protected && !output.safety.way_in_protected
    error_message = "with deletion_protection = false, prod can be destroyed"
  }
}
