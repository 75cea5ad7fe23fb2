variable "name" {
  description = "Name of the fleet; part of every resource's name."
  type        = string
}

variable "instances" {
  description = "Coordinators to run. Two take calls while one is replaced."
  type        = number

  validation {
    condition     = var.instances >= 1 && var.instances <= 10 && floor(var.instances) == var.instances
    error_message = "Run 1 to 10 coordinators."
  }
}

variable "instance_type" {
  description = "EC2 type of a coordinator."
  type        = string
}

variable "ami_id" {
  description = "Image of the coordinators."
  type        = string
}

variable "vpc_id" {
  description = "VPC of the coordinators."
  type        = string
}

variable "vpc_cidr" {
  description = "Addresses of that VPC."
  type        = string
}

variable "subnet_ids" {
  description = "Private subnets of the coordinators and of the internal load balancer."
  type        = list(string)
}

variable "public_subnet_ids" {
  description = "Public subnets, for the public endpoint only."
  type        = list(string)
  default     = []

  validation {
    condition     = length(var.endpoint_cidrs) == 0 || length(var.public_subnet_ids) > 0
    error_message = "A public endpoint needs public subnets, which a network without NAT does not have: set nat to single or per-zone."
  }
}

variable "client_cidrs" {
  description = "Networks of the fleet, whose machines may reach the tunnel."
  type        = list(string)

  validation {
    condition     = !contains(var.client_cidrs, "0.0.0.0/0")
    error_message = "These are the fleet's own networks; a public endpoint is asked for with endpoint_cidrs."
  }
}

variable "endpoint_cidrs" {
  description = "Networks outside from which clients may reach the tunnel, through a public load balancer. None: there is no such endpoint."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for cidr in var.endpoint_cidrs : can(cidrhost(cidr, 0))])
    error_message = "Name networks in CIDR form, such as 203.0.113.0/24."
  }
}

variable "settings" {
  description = "What the boot script is told, as BOOT_... variables."
  type        = map(string)
}

variable "secret_arns" {
  description = "Secrets that a coordinator reads: the store's and the broker's."
  type        = list(string)
}

variable "bucket_arn" {
  description = "Bucket with the fleet file."
  type        = string
}

variable "decrypt_key_arns" {
  description = "Keys of the secrets and of the bucket."
  type        = list(string)
}

variable "metrics_workspace_arn" {
  description = "Prometheus workspace that coordinators write to."
  type        = string
}

variable "kms_key_arn" {
  description = "Key that encrypts disks and secrets."
  type        = string
}

variable "deletion_protection" {
  description = "Refuse to delete the load balancers, and keep deleted secrets for 30 days."
  type        = bool
}

variable "tags" {
  description = "Tags of every resource."
  type        = map(string)
  default     = {}
}
