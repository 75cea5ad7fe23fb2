variable "name" {
  description = "Name of the fleet; part of every resource's name."
  type        = string
}

variable "kind" {
  description = "`amazon-mq`, or `cluster` for three nodes of one's own."
  type        = string

  validation {
    condition     = contains(["amazon-mq", "cluster"], var.kind)
    error_message = "kind must be amazon-mq or cluster."
  }
}

variable "engine_version" {
  description = "Version of RabbitMQ at Amazon MQ."
  type        = string

  validation {
    condition     = contains(["3.13", "4.2", "4.3"], var.engine_version)
    error_message = "Amazon MQ has RabbitMQ 3.13, 4.2 and 4.3."
  }
}

variable "instance_type" {
  description = "Size of a broker: mq.m7g.medium and the like at Amazon MQ, an EC2 type for a cluster of one's own."
  type        = string

  validation {
    condition     = startswith(var.instance_type, "mq.") == (var.kind == "amazon-mq")
    error_message = "Amazon MQ's types begin with mq., such as mq.m7g.medium; a cluster of one's own takes an EC2 type, such as m7i.large."
  }

  validation {
    condition     = var.kind != "amazon-mq" || startswith(var.engine_version, "3.") || startswith(var.instance_type, "mq.m7g.")
    error_message = "Amazon MQ has RabbitMQ 4 on mq.m7g types only."
  }
}

variable "highly_available" {
  description = "Three nodes in three zones at Amazon MQ, instead of one. A cluster of one's own always has three."
  type        = bool
}

variable "vpc_id" {
  description = "VPC of the broker."
  type        = string
}

variable "subnet_ids" {
  description = "Private subnets: one for each node."
  type        = list(string)

  validation {
    condition     = length(var.subnet_ids) >= (var.highly_available || var.kind == "cluster" ? 3 : 1)
    error_message = "Three nodes need private subnets in three availability zones."
  }
}

variable "client_cidrs" {
  description = "Networks of the fleet, whose machines may connect."
  type        = list(string)

  validation {
    condition     = !contains(var.client_cidrs, "0.0.0.0/0")
    error_message = "The broker is for the fleet's own networks, not for the internet."
  }
}

variable "tls_secret_arn" {
  description = "For a cluster of one's own: secret with `certificate` and `key` in PEM, as infra/bin/broker-certificate makes it."
  type        = string
  default     = null

  validation {
    condition     = var.kind != "cluster" || var.tls_secret_arn != null
    error_message = "A cluster of one's own needs a certificate: run infra/bin/broker-certificate and give the secret's ARN."
  }
}

variable "ami_id" {
  description = "Image for the nodes of a cluster of one's own."
  type        = string
}

variable "settings" {
  description = "What the boot script of such nodes is told, as BOOT_... variables."
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
  description = "Key that encrypts secrets, and volumes of a cluster of one's own."
  type        = string
}

variable "deletion_protection" {
  description = "Keep deleted secrets for 30 days, and change the broker in its maintenance window only."
  type        = bool
}

variable "tags" {
  description = "Tags of every resource."
  type        = map(string)
  default     = {}
}
