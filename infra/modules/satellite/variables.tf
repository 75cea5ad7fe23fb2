variable "name" {
  description = "Name of the fleet; part of every resource's name."
  type        = string
}

variable "region" {
  description = "The region's network and image; see the module `fleet`."
  type = object({
    name                = string
    zones               = list(string)
    cidr                = string
    nat                 = string
    interface_endpoints = list(string)
    ami_id              = string
  })
}

variable "home" {
  description = "The network with coordinator and broker."
  type = object({
    vpc_id       = string
    cidr         = string
    route_tables = map(string)
  })
}

variable "pools" {
  description = "Pools to launch here."
  type        = set(string)
}

variable "coordinator_port" {
  description = "Port of the coordinator's tunnel."
  type        = number
}

variable "flow_log_days" {
  description = "Days that records of refused connections are kept."
  type        = number
}

variable "settings" {
  description = "What the boot script is told, as BOOT_... variables."
  type        = map(string)
}

variable "secret_arns" {
  description = "Secrets that a worker reads."
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

variable "disk_gb" {
  description = "Size of a worker's disk in GB."
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
