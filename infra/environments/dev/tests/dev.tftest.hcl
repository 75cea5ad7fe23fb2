# `dev` as a whole, with everything that AWS would answer made up.

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
  monthly_usd = 500
  regions = [{
    name   = "us-east-1"
    zones  = ["us-east-1a", "us-east-1b"]
    cidr   = "10.64.0.0/16"
    ami_id = "ami-0123456789abcdef0"
  }]
}

run "can_be_destroyed" {
  assert {
    condition     = !output.safety.store_protected && !output.safety.way_in_protected && !output.safety.bucket_kept
    error_message = "dev must be easy to destroy"
  }
  assert {
    condition     = output.safety.store_encrypted && output.safety.store_backup_days >= 1
    error_message = "even dev's store is encrypted and backed up"
  }
}

run "budget_alerts_at_80_percent" {
  assert {
    condition     = contains(keys(output.safety.budget_alerts), "ACTUAL 80") && contains(keys(output.safety.budget_alerts), "FORECASTED 100")
    error_message = "mail goes out at 80 % of the month's budget, and when the forecast passes it"
  }
}

run "outputs_feed_the_fleet_file" {
  assert {
    condition     = strcontains(output.provider_toml, "[provider.ec2.us-east-1.launch-templates.default]")
    error_message = "the fleet file must learn what the pool is launched from"
  }
  assert {
    condition     = strcontains(output.provider_toml, "us-east-1b = \"subnet-") && strcontains(output.provider_toml, "version = \"7\"")
    error_message = "the fleet file must learn of subnets and of the template's version"
  }
  assert {
    condition     = strcontains(output.env, "export STOKER_TUNNEL=") && !strcontains(output.env, "0123456789abcdefghij")
    error_message = "the variables name the secret and do not hold it"
  }
  assert {
    condition     = output.public_address == null
    error_message = "nobody asked for a public endpoint"
  }
}

run "further_regions_have_workers" {
  variables {
    regions = [
      { name = "us-east-1", zones = ["us-east-1a", "us-east-1b"], cidr = "10.64.0.0/16", ami_id = "ami-0123456789abcdef0" },
      { name = "us-west-2", zones = ["us-west-2a", "us-west-2b"], cidr = "10.65.0.0/16", ami_id = "ami-0123456789abcdef1" },
      { name = "eu-west-1", zones = ["eu-west-1a", "eu-west-1b"], cidr = "10.66.0.0/16", ami_id = "ami-0123456789abcdef2" },
    ]
  }
  assert {
    condition     = toset(keys(output.launch_templates)) == toset(["us-east-1", "us-west-2", "eu-west-1"])
    error_message = "each region of the list has launch templates"
  }
}

