variable "name" {
  description = "Name of the fleet, as in the fleet file."
  type        = string
  default     = "dev"
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
    condition     = length(var.regions) >= 1
    error_message = "Name the home region at least."
  }
}

variable "fleet_file" {
  description = "Path of the fleet file, without the table `provider`, which Terraform adds."
  type        = string

  validation {
    condition     = fileexists(var.fleet_file)
    error_message = "There is no such file. Write a fleet file, check it with `stoker check`, and give its path."
  }
}

variable "pools" {
  description = "Pools of the fleet file that are to be launched on EC2."
  type        = set(string)
}

variable "emails" {
  description = "Who is told of alerts, alarms and costs; each address has to confirm once."
  type        = list(string)
}

variable "monthly_usd" {
  description = "What the fleet may cost in a month, in dollars: mail goes out at 80 %. The autoscaler keeps to `[budget]` in the fleet file, which should be lower."
  type        = number
}

variable "activate_cost_tag" {
  description = "Count costs by the fleet's tag. AWS accepts this about a day after the first apply."
  type        = bool
  default     = false
}

variable "autoscalers" {
  description = "Autoscalers to run; 0 while machines are bought by hand."
  type        = number
  default     = 1
}

variable "identity_certificates_file" {
  description = "Path of a file with AWS's RSA-2048 certificates of the regions: workers then have to prove that they run on machines of this account. Null: their join token is enough."
  type        = string
  default     = null

  validation {
    condition     = var.identity_certificates_file == null || try(fileexists(var.identity_certificates_file), false)
    error_message = "There is no such file. infra/README.md says where AWS publishes its certificates."
  }
}

variable "endpoint_cidrs" {
  description = "Networks outside from which clients may reach the coordinators' tunnel; none unless somebody asks."
  type        = list(string)
  default     = []
}

variable "create_spot_role" {
  description = "Make the role that EC2 needs for spot capacity. An account has it once: true if spot was never used in it."
  type        = bool
  default     = false
}

variable "tags" {
  description = "Further tags of every resource."
  type        = map(string)
  default     = {}
}
