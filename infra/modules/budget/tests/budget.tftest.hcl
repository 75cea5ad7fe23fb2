# The bill is watched.

mock_provider "aws" {
  source = "../../check/mocks"
}

variables {
  name              = "test"
  monthly_usd       = 1000
  anomaly_usd       = 50
  emails            = ["oncall@example.com"]
  topic_arn         = "arn:aws:sns:us-east-1:123456789012:stoker-alerts"
  activate_cost_tag = true
}

run "alerts_at_80_percent_of_the_fleets_costs" {
  command = plan
  assert {
    condition     = output.alerts == { "ACTUAL 80" = 80, "ACTUAL 100" = 100, "FORECASTED 100" = 100 }
    error_message = "mail goes out at 80 %, at 100 %, and when the forecast passes 100 %"
  }
  assert {
    condition     = one([for filter in aws_budgets_budget.this.cost_filter : filter.values]) == tolist(["user:stoker:fleet$test"])
    error_message = "only this fleet's costs are counted"
  }
  assert {
    condition     = alltrue([for notification in aws_budgets_budget.this.notification : contains(notification.subscriber_sns_topic_arns, var.topic_arn)])
    error_message = "the topic of alerts is told as well"
  }
}

run "no_watch_for_unusual_costs_unless_asked" {
  command = plan
  variables {
    anomaly_usd = null
  }
  assert {
    condition     = length(aws_ce_anomaly_monitor.this) == 0 && length(aws_ce_anomaly_subscription.this) == 0
    error_message = "the watch is made only with an amount"
  }
}

run "a_budget_of_nothing_is_refused" {
  command = plan
  variables {
    monthly_usd = 0
  }
  expect_failures = [var.monthly_usd]
}
