variable "name" {
  description = "Name of the fleet; part of every resource's name."
  type        = string
}

variable "vpc_id" {
  description = "VPC of the nodes."
  type        = string
}

variable "subnet_ids" {
  description = "Private subnets; the first three get a node each."
  type        = list(string)
}

variable "client_cidrs" {
  description = "Networks of the fleet, whose machines may connect."
  type        = list(string)
}

variable "security_group_id" {
  description = "Security group of the nodes."
  type        = string
}

variable "ami_id" {
  description = "Image of the nodes, with RabbitMQ in it."
  type        = string
}

variable "instance_type" {
  description = "EC2 type of the nodes, such as m7i.large."
  type        = string
}

variable "disk_gb" {
  description = "Size of a node's data disk in GB."
  type        = number
  default     = 50

  validation {
    condition     = var.disk_gb >= 10 && var.disk_gb <= 16000
    error_message = "A node's disk has 10 to 16000 GB."
  }
}

variable "password_secret_arn" {
  description = "Secret with `user`, `password` and `cookie`."
  type        = string
}

variable "tls_secret_arn" {
  description = "Secret with `certificate` and `key` in PEM."
  type        = string
}

variable "settings" {
  description = "What the boot script is told, as BOOT_... variables."
  type        = map(string)
}

variable "bucket_arn" {
  description = "Bucket with the fleet's configuration."
  type        = string
}

variable "decrypt_key_arns" {
  description = "Keys of the secrets and of the bucket."
  type        = list(string)
}

variable "metrics_workspace_arn" {
  description = "Prometheus workspace that nodes write to."
  type        = string
}

variable "kms_key_arn" {
  description = "Key that encrypts the disks."
  type        = string
}

variable "deletion_protection" {
  description = "Refuse to end the nodes and the load balancer."
  type        = bool
}

variable "tags" {
  description = "Tags of every resource."
  type        = map(string)
  default     = {}
}
