terraform {
  required_version = ">= 1.11"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.100, < 7.0"
    }
  }

  # The state holds the broker's password and the tunnel's keys: encrypted, locked, and nobody else's to read.
  # `terraform init -backend-config=backend.hcl` says which bucket; infra/README.md has an example.
  backend "s3" {
    encrypt      = true
    use_lockfile = true
  }
}
