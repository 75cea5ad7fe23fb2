variable "name" {
  description = "Name of the fleet: the value of the tag `stoker:fleet`, without which the autoscaler may touch nothing."
  type        = string
}

variable "regions" {
  description = "Regions in which it may launch; the first is its own."
  type        = list(string)

  validation {
    condition     = length(var.regions) > 0
    error_message = "Name at least the region of the autoscaler itself."
  }
}

variable "instances" {
  description = "Autoscalers to run: one, or two of which one leads and the other waits. None while machines are bought by hand."
  type        = number

  validation {
    condition     = contains([0, 1, 2], var.instances)
    error_message = "Run none, one or two autoscalers."
  }
}

variable "instance_type" {
  description = "EC2 type of the autoscaler."
  type        = string
}

variable "ami_ids" {
  description = "Image by region: that of the autoscaler in the first, those of workers in all."
  type        = map(string)

  validation {
    condition     = length(setsubtract(var.regions, keys(var.ami_ids))) == 0
    error_message = "Each region of the fleet needs an image: run infra/image for it."
  }
}

variable "vpc_id" {
  description = "VPC of the autoscaler."
  type        = string
}

variable "vpc_cidr" {
  description = "Addresses of that VPC."
  type        = string
}

variable "subnet_ids" {
  description = "Private subnets."
  type        = list(string)
}

variable "coordinator_port" {
  description = "Port of the coordinator's tunnel."
  type        = number
}

variable "launch_template_arns" {
  description = "Launch templates that it may launch from."
  type        = list(string)
}

variable "subnet_arns" {
  description = "Subnets that it may launch into."
  type        = list(string)
}

variable "security_group_arns" {
  description = "Security groups that it may launch with."
  type        = list(string)
}

variable "worker_role_arns" {
  description = "The only roles that it may give to a machine: those of workers."
  type        = list(string)
}

variable "create_spot_role" {
  description = "Make the role that EC2 needs for spot capacity. An account has it once: false where it exists already."
  type        = bool
}

variable "settings" {
  description = "What the boot script is told, as BOOT_... variables."
  type        = map(string)
}

variable "secret_arns" {
  description = "Secrets that it reads: the tunnel's key."
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
  description = "Prometheus workspace that it writes to."
  type        = string
}

variable "kms_key_arn" {
  description = "Key that encrypts its disk."
  type        = string
}

variable "tags" {
  description = "Tags of every resource."
  type        = map(string)
  default     = {}
}
