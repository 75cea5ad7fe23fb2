variable "name" {
  description = "Name of the fleet; part of every resource's name."
  type        = string
}

variable "rules" {
  description = "Alert rules in Prometheus's YAML, by name."
  type        = map(string)

  validation {
    condition     = length(var.rules) > 0 && alltrue([for rules in values(var.rules) : can(yamldecode(rules).groups[0].rules)])
    error_message = "Each entry is a file of alert rules, with `groups` that have `rules`."
  }
}

variable "emails" {
  description = "Who is told of alerts and alarms; each address has to confirm."
  type        = list(string)

  validation {
    condition     = length(var.emails) > 0 && alltrue([for email in var.emails : can(regex("^[^@\\s]+@[^@\\s]+\\.[^@\\s]+$", email))])
    error_message = "Name at least one address, such as oncall@example.com: alerts that reach nobody are worth nothing."
  }
}

variable "store_identifier" {
  description = "Name of the database in CloudWatch."
  type        = string
}

variable "broker_name" {
  description = "Name of the broker in CloudWatch; null for a cluster of one's own."
  type        = string
}

variable "broker_memory_alarm_bytes" {
  description = "Memory of the broker above which it is about to block publishers: a little less than its limit, which is 40 % of the machine's memory."
  type        = number

  validation {
    condition     = var.broker_memory_alarm_bytes > 0
    error_message = "Give a number of bytes above 0."
  }
}

variable "load_balancer" {
  description = "Name of the coordinators' load balancer in CloudWatch."
  type        = string
}

variable "target_group" {
  description = "Name of its targets in CloudWatch."
  type        = string
}

variable "grafana" {
  description = "Make a Grafana workspace, for which the account needs IAM Identity Center."
  type        = bool
}

variable "kms_key_arn" {
  description = "Key that encrypts metrics, logs and alerts."
  type        = string
}

variable "tags" {
  description = "Tags of every resource."
  type        = map(string)
  default     = {}
}
