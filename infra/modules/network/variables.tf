variable "name" {
  description = "Name of the fleet; part of every resource's name."
  type        = string
}

variable "cidr" {
  description = "Addresses of the VPC. A fleet of several regions needs ranges that do not overlap."
  type        = string

  validation {
    condition     = can(cidrsubnet(var.cidr, 8, 0)) && try(tonumber(split("/", var.cidr)[1]), 32) <= 18
    error_message = "The VPC needs an IPv4 range of /18 or larger, such as 10.64.0.0/16: workers take an address each."
  }
}

variable "zones" {
  description = "Availability zones to use, two to six; more zones mean more pools of spot capacity."
  type        = list(string)

  validation {
    condition     = length(var.zones) >= 2 && length(var.zones) <= 6 && length(distinct(var.zones)) == length(var.zones)
    error_message = "Name two to six different availability zones, such as [\"us-east-1a\", \"us-east-1b\"]."
  }
}

variable "nat" {
  description = "Ways to the internet: `none` (then AWS must be reached through interface endpoints), `single` or `per-zone`."
  type        = string

  validation {
    condition     = contains(["none", "single", "per-zone"], var.nat)
    error_message = "nat must be none, single or per-zone."
  }
}

variable "interface_endpoints" {
  description = "AWS services to reach without NAT, by the last part of their endpoint's name, such as `ec2`."
  type        = list(string)
  default     = []

  validation {
    condition = var.nat != "none" || length(setsubtract(
      ["aps-workspaces", "ec2", "secretsmanager", "ssm", "ssmmessages", "sts"], var.interface_endpoints,
    )) == 0
    error_message = "Without NAT the machines need at least the endpoints aps-workspaces, ec2, secretsmanager, ssm, ssmmessages and sts."
  }
}

variable "flow_log_days" {
  description = "Days that records of refused connections are kept."
  type        = number
  default     = 30

  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731], var.flow_log_days)
    error_message = "CloudWatch keeps logs for 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545 or 731 days."
  }
}

variable "kms_key_arn" {
  description = "Key that encrypts the logs."
  type        = string
}

variable "tags" {
  description = "Tags of every resource."
  type        = map(string)
  default     = {}
}
