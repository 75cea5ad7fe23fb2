# What the bill says. It says it hours late, so this is the second line: the first is `[budget]` in fleet.toml, to
# which the autoscaler keeps by its own count.

resource "aws_budgets_budget" "this" {
  name         = "stoker-${var.name}"
  budget_type  = "COST"
  time_unit    = "MONTHLY"
  limit_amount = tostring(var.monthly_usd)
  limit_unit   = "USD"
  tags         = var.tags

  # Counts from the day on which the tag was activated for cost allocation.
  cost_filter {
    name   = "TagKeyValue"
    values = [format("user:stoker:fleet%s%s", "$", var.name)]
  }

  dynamic "notification" {
    for_each = [
      { type = "ACTUAL", percent = 80 },
      { type = "ACTUAL", percent = 100 },
      { type = "FORECASTED", percent = 100 },
    ]
    content {
      notification_type          = notification.value.type
      comparison_operator        = "GREATER_THAN"
      threshold                  = notification.value.percent
      threshold_type             = "PERCENTAGE"
      subscriber_email_addresses = var.emails
      subscriber_sns_topic_arns  = [var.topic_arn]
    }
  }
}

resource "aws_ce_anomaly_monitor" "this" {
  count = var.anomaly_usd == null ? 0 : 1

  name         = "stoker-${var.name}"
  monitor_type = "CUSTOM"
  monitor_specification = jsonencode({
    And            = null
    CostCategories = null
    Dimensions     = null
    Not            = null
    Or             = null
    Tags           = { Key = "stoker:fleet", MatchOptions = null, Values = [var.name] }
  })
  tags = var.tags
}

resource "aws_ce_anomaly_subscription" "this" {
  count = var.anomaly_usd == null ? 0 : 1

  name             = "stoker-${var.name}"
  frequency        = "IMMEDIATE"
  monitor_arn_list = [aws_ce_anomaly_monitor.this[0].arn]
  tags             = var.tags

  subscriber {
    type    = "SNS"
    address = var.topic_arn
  }

  threshold_expression {
    dimension {
      key           = "ANOMALY_TOTAL_IMPACT_ABSOLUTE"
      match_options = ["GREATER_THAN_OR_EQUAL"]
      values        = [tostring(var.anomaly_usd)]
    }
  }
}

resource "aws_ce_cost_allocation_tag" "this" {
  count = var.activate_cost_tag ? 1 : 0

  tag_key = "stoker:fleet"
  status  = "Active"
}
