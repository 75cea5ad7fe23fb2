variable "name" {
  description = "Name of the fleet; part of every resource's name."
  type        = string
}

variable "pools" {
  description = "Pools of the fleet file that are to be launched here."
  type        = set(string)

  validation {
    condition     = length(var.pools) > 0 && alltrue([for pool in var.pools : can(regex("^[a-z0-9][a-z0-9-]{0,39}$", pool))])
    error_message = "Name at least one pool of the fleet file: lower-case letters, digits and dashes, at most 40."
  }
}

variable "vpc_id" {
  description = "VPC of the workers."
  type        = string
}

variable "home_cidr" {
  description = "Addresses of the VPC with coordinator and broker."
  type        = string
}

variable "coordinator_port" {
  description = "Port of the coordinator's tunnel."
  type        = number
}

variable "ami_id" {
  description = "Image of the workers in this region."
  type        = string
}

variable "settings" {
  description = "What the boot script is told, as BOOT_... variables."
  type        = map(string)
}

variable "secret_arns" {
  description = "Secrets that a worker reads: the tunnel's key and the broker's address."
  type        = list(string)
}

variable "bucket_arn" {
  description = "Bucket with the fleet file and the weights."
  type        = string
}

variable "decrypt_key_arns" {
  description = "Keys of the secrets and of the bucket."
  type        = list(string)
}

variable "metrics_workspace_arn" {
  description = "Prometheus workspace that workers write to."
  type        = string
}

variable "kms_key_arn" {
  description = "Key that encrypts the workers' disks, in this region."
  type        = string
}

variable "disk_gb" {
  description = "Size of a worker's disk in GB; weights are kept on the instance's own NVMe where it has some."
  type        = number
}

variable "disk_initialization_rate" {
  description = "MiB/s at which a disk is filled from its snapshot; see the module `host`."
  type        = number
}

variable "tags" {
  description = "Tags of every resource."
  type        = map(string)
  default     = {}
}
