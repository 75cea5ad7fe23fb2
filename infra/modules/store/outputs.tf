output "host" {
  description = "Host name of the database."
  value       = aws_db_instance.this.address
}

output "secret_arn" {
  description = "Secret with the user and its password, made and changed by RDS."
  value       = aws_db_instance.this.master_user_secret[0].secret_arn
}

output "identifier" {
  description = "Name of the database in CloudWatch."
  value       = aws_db_instance.this.identifier
}

output "safety" {
  description = "What keeps jobs from being lost."
  value = {
    deletion_protection = aws_db_instance.this.deletion_protection
    multi_az            = aws_db_instance.this.multi_az
    backup_days         = aws_db_instance.this.backup_retention_period
    encrypted           = aws_db_instance.this.storage_encrypted
    final_snapshot      = !aws_db_instance.this.skip_final_snapshot
  }
}
