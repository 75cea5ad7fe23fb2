variable "name" {
  description = "Name of the fleet; part of every resource's name."
  type        = string
}

variable "tags" {
  description = "Tags of every resource."
  type        = map(string)
  default     = {}
}
