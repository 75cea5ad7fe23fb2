variable "name" {
  description = "Name of the fleet; part of the bucket's name."
  type        = string
}

variable "kms_key_arn" {
  description = "Key that encrypts the bucket."
  type        = string
}

variable "fleet_toml" {
  description = "Text of the fleet file that coordinator, autoscaler and workers read. It holds no secrets."
  type        = string

  validation {
    condition     = length(regexall("(?m)^fleet\\s*=", var.fleet_toml)) == 1
    error_message = "This is no fleet file: it has no line `fleet = \"...\"`. Check it with `stoker check`."
  }
}

variable "broker_ca_pem" {
  description = "Certificate of the authority that signed the broker's; null for Amazon MQ, whose authority every system knows."
  type        = string
  default     = null
}

variable "identity_certificates_pem" {
  description = "AWS's RSA-2048 certificates of the fleet's regions, by which workers prove their machine; null: they need not."
  type        = string
  default     = null
}

variable "deletion_protection" {
  description = "Keep the bucket when it still holds objects."
  type        = bool
}

variable "tags" {
  description = "Tags of every resource."
  type        = map(string)
  default     = {}
}
