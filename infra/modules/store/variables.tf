variable "name" {
  description = "Name of the fleet; part of every resource's name."
  type        = string
}

variable "vpc_id" {
  description = "VPC of the database."
  type        = string
}

variable "subnet_ids" {
  description = "Private subnets, in two availability zones at least."
  type        = list(string)
}

variable "coordinator_security_group_id" {
  description = "Security group of the coordinators, who alone may connect."
  type        = string
}

variable "engine_version" {
  description = "Version of Postgres, 14 or later; with the major number alone RDS chooses the minor one."
  type        = string

  validation {
    condition     = try(tonumber(split(".", var.engine_version)[0]) >= 14, false)
    error_message = "Stoker needs Postgres 14 or later."
  }
}

variable "instance_class" {
  description = "Size of the database, such as db.t4g.micro or db.r7g.large."
  type        = string

  validation {
    condition     = startswith(var.instance_class, "db.")
    error_message = "Classes of RDS begin with db., such as db.t4g.micro."
  }
}

variable "multi_az" {
  description = "Whether a second copy in another zone, written synchronously, takes over when the first fails."
  type        = bool
}

variable "storage_gb" {
  description = "Size of the store in GB; it grows by itself to four times that."
  type        = number

  validation {
    condition     = var.storage_gb >= 20 && var.storage_gb <= 16000
    error_message = "The store has 20 to 16000 GB."
  }
}

variable "backup_days" {
  description = "Days that backups are kept, to any second of which the store can be restored."
  type        = number

  validation {
    condition     = var.backup_days >= 1 && var.backup_days <= 35
    error_message = "Backups are kept for 1 to 35 days; without one, a lost disk loses accepted jobs."
  }
}

variable "deletion_protection" {
  description = "Refuse to delete the database, and keep a last snapshot when it is deleted after all."
  type        = bool
}

variable "kms_key_arn" {
  description = "Key that encrypts the database, its snapshots and its password."
  type        = string
}

variable "tags" {
  description = "Tags of every resource."
  type        = map(string)
  default     = {}
}
