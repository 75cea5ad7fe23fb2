variable "name" {
  description = "Name of the fleet: the value of the tag `stoker:fleet` by which costs are counted."
  type        = string
}

variable "monthly_usd" {
  description = "What the fleet may cost in a month, in dollars. Mail goes out at 80 %, at 100 %, and when the forecast passes 100 %."
  type        = number

  validation {
    condition     = var.monthly_usd > 0
    error_message = "The budget is above 0 dollars a month."
  }
}

variable "anomaly_usd" {
  description = "Dollars by which costs differ from what they usually are before that is told; null for no such watch."
  type        = number

  validation {
    condition     = var.anomaly_usd == null || try(var.anomaly_usd > 0, false)
    error_message = "Give dollars above 0, or null."
  }
}

variable "emails" {
  description = "Who is told, beside the topic."
  type        = list(string)

  validation {
    condition     = length(var.emails) >= 1 && length(var.emails) <= 10
    error_message = "AWS Budgets writes to one to ten addresses."
  }
}

variable "topic_arn" {
  description = "Topic of alerts."
  type        = string
}

variable "activate_cost_tag" {
  description = "Activate the tag for cost allocation. AWS accepts this about a day after the tag was first used, and from the account that pays only."
  type        = bool
}

variable "tags" {
  description = "Tags of every resource."
  type        = map(string)
  default     = {}
}
