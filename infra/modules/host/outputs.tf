output "launch_templates" {
  description = "ID, ARN and latest version of each launch template, by the name of its variant."
  value = {
    for name, template in aws_launch_template.this : name => {
      id      = template.id
      arn     = template.arn
      name    = template.name
      version = template.latest_version
    }
  }
}

output "role_arn" {
  description = "ARN of the machine's role."
  value       = aws_iam_role.this.arn
}

output "role_name" {
  description = "Name of the machine's role."
  value       = aws_iam_role.this.name
}
