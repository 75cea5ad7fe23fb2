# One for each region that the list may name. Those past its end point home and are not used.

locals {
  tags = merge(var.tags, { "stoker:fleet" = var.name, "stoker:environment" = local.environment })
}

provider "aws" {
  region = var.regions[0].name

  default_tags {
    tags = local.tags
  }
}

provider "aws" {
  alias  = "second"
  region = try(var.regions[1].name, var.regions[0].name)

  default_tags {
    tags = local.tags
  }
}

provider "aws" {
  alias  = "third"
  region = try(var.regions[2].name, var.regions[0].name)

  default_tags {
    tags = local.tags
  }
}
