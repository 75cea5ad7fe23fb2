variable "name" {
  description = "Name of the fleet; part of every resource's name."
  type        = string
}

variable "role" {
  description = "What the machine is: `coordinator`, `autoscaler`, `worker` or `broker`. `/usr/lib/stoker/boot` of the image knows these."
  type        = string

  validation {
    condition     = contains(["coordinator", "autoscaler", "worker", "broker"], var.role)
    error_message = "role must be coordinator, autoscaler, worker or broker."
  }
}

variable "ami_id" {
  description = "Image made by infra/image in this region."
  type        = string

  validation {
    condition     = can(regex("^ami-[0-9a-f]{8,17}$", var.ami_id))
    error_message = "ami_id must be the ID of an image, such as ami-0123456789abcdef0; infra/image makes one."
  }
}

variable "instance_type" {
  description = "Type of the machine; left out for workers, whose type the autoscaler chooses."
  type        = string
  default     = null
}

variable "variants" {
  description = "Launch templates to make: settings by name. An empty name is the role's only template. What has BOOT_POOL is tagged with its pool, and may be ended by the autoscaler."
  type        = map(map(string))
  default     = { "" = {} }
}

variable "settings" {
  description = "What the boot script is told, as BOOT_... variables. Never a secret."
  type        = map(string)

  validation {
    condition = alltrue([
      for key, value in var.settings : can(regex("^BOOT_[A-Z0-9_]+$", key)) && can(regex("^[A-Za-z0-9._:/@%+,=-]*$", value))
    ])
    error_message = "Settings are BOOT_... variables whose values a shell reads as one word."
  }
}

variable "security_group_ids" {
  description = "Security groups of the machine's only network interface."
  type        = list(string)
}

variable "policies" {
  description = "Further policies of the machine's role, JSON by name."
  type        = map(string)
  default     = {}
}

variable "secret_arns" {
  description = "Secrets that the machine reads at boot."
  type        = list(string)

  validation {
    condition     = length(var.secret_arns) > 0
    error_message = "Name the secrets one by one; an empty list would be no valid policy."
  }
}

variable "bucket_arn" {
  description = "Bucket with the fleet file and the weights."
  type        = string
}

variable "object_prefixes" {
  description = "Beginnings of the names of objects that the machine reads."
  type        = list(string)
  default     = ["config/"]
}

variable "decrypt_key_arns" {
  description = "Keys of the secrets and of the bucket."
  type        = list(string)
}

variable "metrics_workspace_arn" {
  description = "Prometheus workspace that the machine writes its metrics to; left out, it writes none."
  type        = string
  default     = null
}

variable "kms_key_arn" {
  description = "Key that encrypts the disk."
  type        = string
}

variable "disk_gb" {
  description = "Size of the disk in GB."
  type        = number
  default     = 20

  validation {
    condition     = var.disk_gb >= 8 && var.disk_gb <= 16000
    error_message = "The disk has 8 to 16000 GB."
  }
}

variable "disk_initialization_rate" {
  description = "MiB/s at which the disk is filled from its snapshot, 100 to 300, billed by the GB; left out, blocks are fetched as they are read, which makes a large image slow to start."
  type        = number
  default     = null

  validation {
    condition     = var.disk_initialization_rate == null || try(var.disk_initialization_rate >= 100 && var.disk_initialization_rate <= 300, false)
    error_message = "The disk is filled at 100 to 300 MiB/s."
  }
}

variable "tags" {
  description = "Tags of every resource, launched ones included."
  type        = map(string)
  default     = {}
}
