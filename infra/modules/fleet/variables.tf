variable "name" {
  description = "Name of the fleet, as in the fleet file; part of every resource's name."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,15}$", var.name))
    error_message = "The name has 2 to 16 characters: a lower-case letter, then letters, digits and dashes. Load balancers allow no longer names."
  }
}

variable "regions" {
  description = "Regions of the fleet, one to three; the first is home. `ami_id` is the image that infra/image made there."
  type = list(object({
    name                = string
    zones               = list(string)
    cidr                = string
    nat                 = optional(string, "single")
    interface_endpoints = optional(list(string), [])
    ami_id              = string
  }))

  validation {
    condition     = length(var.regions) >= 1 && length(var.regions) <= 3
    error_message = "A fleet has one to three regions."
  }

  validation {
    condition     = length(distinct([for region in var.regions : region.name])) == length(var.regions) && length(distinct([for region in var.regions : region.cidr])) == length(var.regions)
    error_message = "Each region stands in the list once, with a range of addresses of its own."
  }

  validation {
    condition     = alltrue([for region in slice(var.regions, 1, max(1, length(var.regions))) : region.nat != "none"])
    error_message = "Only the first region can do without NAT: the others reach secrets and weights at home through it."
  }

  validation {
    condition     = alltrue([for region in var.regions : alltrue([for zone in region.zones : startswith(zone, region.name)])])
    error_message = "The zones of a region begin with its name, such as us-east-1a."
  }
}

variable "fleet_toml" {
  description = "Text of the fleet file."
  type        = string

  validation {
    condition     = can(regex("(?m)^fleet\\s*=\\s*\"${var.name}\"", var.fleet_toml))
    error_message = "The fleet file is of another fleet: its line `fleet = \"...\"` must have the name given here, which is in every queue's name and on every machine's tag."
  }

  validation {
    condition     = !can(regex("(?m)^\\s*\\[provider", var.fleet_toml))
    error_message = "Leave the table `provider` out of the fleet file: Terraform adds it, with the launch templates and subnets that it makes."
  }
}

variable "pools" {
  description = "Pools of the fleet file that are to be launched on EC2."
  type        = set(string)

  validation {
    condition     = alltrue([for pool in var.pools : can(regex("(?m)^\\s*\\[pools\\.\"?${pool}\"?\\]", var.fleet_toml))])
    error_message = "A pool is not in the fleet file: each needs a table [pools.NAME] there."
  }
}

variable "store" {
  description = "Size and safety of the database; see the module `store`."
  type = object({
    engine_version = optional(string, "17")
    instance_class = string
    multi_az       = bool
    storage_gb     = optional(number, 50)
    backup_days    = optional(number, 7)
  })
}

variable "broker" {
  description = "The queue: `kind` is amazon-mq or cluster; see the module `broker`. `ca_pem` and `tls_secret_arn` are for a cluster of one's own, and come from infra/bin/broker-certificate."
  type = object({
    kind               = optional(string, "amazon-mq")
    engine_version     = optional(string, "4.2")
    instance_type      = string
    highly_available   = bool
    memory_alarm_bytes = number
    tls_secret_arn     = optional(string)
    ca_pem             = optional(string)
  })

  validation {
    condition     = var.broker.kind != "cluster" || try(startswith(var.broker.ca_pem, "-----BEGIN CERTIFICATE-----"), false)
    error_message = "Clients of a cluster of one's own must know who signed its certificate: give ca_pem."
  }

  validation {
    condition     = var.broker.kind != "cluster" || length(var.regions) == 1
    error_message = "A fleet of several regions needs Amazon MQ: the private zone of a cluster of one's own is known at home only."
  }
}

variable "coordinator" {
  description = "How many coordinators, and of which EC2 type."
  type = object({
    instances     = number
    instance_type = string
  })
}

variable "autoscaler" {
  description = "How many autoscalers, and of which EC2 type."
  type = object({
    instances     = number
    instance_type = string
  })
}

variable "worker_disk" {
  description = "Disk of workers: size in GB, and MiB/s at which it is filled from its snapshot (100 to 300, billed; null: as it is read)."
  type = object({
    gb                  = optional(number, 40)
    initialization_rate = optional(number)
  })
  default = {}
}

variable "budget" {
  description = "Dollars a month, dollars by which a cost is told as unusual (null: never), and whether to activate the cost tag (a day after the first apply)."
  type = object({
    monthly_usd       = number
    anomaly_usd       = optional(number)
    activate_cost_tag = optional(bool, false)
  })
}

variable "emails" {
  description = "Who is told of alerts, alarms and costs."
  type        = list(string)
}

variable "identity_certificates_pem" {
  description = "AWS's RSA-2048 certificates of the fleet's regions, in PEM: coordinators then let in workers only that prove to run on machines of this account in these regions. Null: the join token is enough."
  type        = string
  default     = null

  validation {
    condition     = var.identity_certificates_pem == null || try(length(regexall("-----BEGIN CERTIFICATE-----", var.identity_certificates_pem)) >= length(var.regions), false)
    error_message = "Each region has a certificate of its own, between its lines BEGIN CERTIFICATE and END CERTIFICATE. infra/README.md says where AWS publishes them."
  }
}

variable "endpoint_cidrs" {
  description = "Networks outside from which clients may reach the coordinators' tunnel; none unless somebody asks."
  type        = list(string)
  default     = []
}

variable "grafana" {
  description = "Make a Grafana workspace, for which the account needs IAM Identity Center."
  type        = bool
  default     = false
}

variable "create_spot_role" {
  description = "Make the role that EC2 needs for spot capacity. An account has it once: false where it exists already."
  type        = bool
  default     = false
}

variable "flow_log_days" {
  description = "Days that records of refused connections are kept."
  type        = number
  default     = 30
}

variable "deletion_protection" {
  description = "Refuse to delete what holds jobs; `terraform destroy` needs this to be false first."
  type        = bool
}

variable "tags" {
  description = "Tags of every resource."
  type        = map(string)
  default     = {}
}
