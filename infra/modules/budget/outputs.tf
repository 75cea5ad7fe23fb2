output "name" {
  description = "Name of the budget."
  value       = aws_budgets_budget.this.name
}

output "alerts" {
  description = "Percentages of the budget at which mail goes out, by kind."
  value = {
    for notification in aws_budgets_budget.this.notification :
    "${notification.notification_type} ${notification.threshold}" => notification.threshold
  }
}
