output "vpc_id" {
  description = "ID of the VPC."
  value       = aws_vpc.this.id
}

output "cidr" {
  description = "Addresses of the VPC."
  value       = aws_vpc.this.cidr_block
}

output "private_subnets" {
  description = "IDs of the private subnets by availability zone."
  value       = { for zone, subnet in aws_subnet.private : zone => subnet.id }
}

output "private_subnet_arns" {
  description = "ARNs of the private subnets."
  value       = [for subnet in aws_subnet.private : subnet.arn]
}

output "public_subnets" {
  description = "IDs of the public subnets by availability zone; empty without NAT."
  value       = { for zone, subnet in aws_subnet.public : zone => subnet.id }
}

output "private_route_tables" {
  description = "IDs of the private subnets' route tables by availability zone."
  value       = { for zone, table in aws_route_table.private : zone => table.id }
}
