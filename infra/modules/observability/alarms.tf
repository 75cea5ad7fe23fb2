# What only AWS can tell: the state of the parts that it runs for the fleet.

locals {
  alarms = merge(
    {
      store-cpu = {
        description = "The store computes without a break. Look at its slowest statements in Performance Insights; a larger instance_class helps."
        namespace   = "AWS/RDS", metric = "CPUUtilization", statistic = "Average"
        dimensions  = { DBInstanceIdentifier = var.store_identifier }
        comparison  = "GreaterThanThreshold", threshold = 85, periods = 15, missing = "breaching"
      }
      store-space = {
        description = "The store's disk is nearly full although it grows by itself. Raise storage_gb, or keep jobs for a shorter time (retention in fleet.toml)."
        namespace   = "AWS/RDS", metric = "FreeStorageSpace", statistic = "Minimum"
        dimensions  = { DBInstanceIdentifier = var.store_identifier }
        comparison  = "LessThanThreshold", threshold = 5 * 1024 * 1024 * 1024, periods = 5, missing = "notBreaching"
      }
      coordinator-unready = {
        description = "The load balancer has no coordinator that is ready: calls fail. See the alert StokerCoordinatorNotReady for what to do."
        namespace   = "AWS/NetworkELB", metric = "HealthyHostCount", statistic = "Maximum"
        dimensions  = { LoadBalancer = var.load_balancer, TargetGroup = var.target_group }
        comparison  = "LessThanThreshold", threshold = 1, periods = 3, missing = "breaching"
      }
    },
    var.broker_name == null ? {} : {
      broker-memory = {
        description = "The broker has used most of the memory that it may use, and will block publishers. Take a larger broker, or see whether queues are consumed."
        namespace   = "AWS/AmazonMQ", metric = "RabbitMQMemUsed", statistic = "Maximum"
        dimensions  = { Broker = var.broker_name }
        comparison  = "GreaterThanThreshold", threshold = var.broker_memory_alarm_bytes, periods = 5, missing = "notBreaching"
      }
      broker-disk = {
        description = "The broker's disk is nearly full, and it will block publishers. See whether queues are consumed; a larger broker has a larger disk."
        namespace   = "AWS/AmazonMQ", metric = "RabbitMQDiskFree", statistic = "Minimum"
        dimensions  = { Broker = var.broker_name }
        comparison  = "LessThanThreshold", threshold = 10 * 1024 * 1024 * 1024, periods = 5, missing = "notBreaching"
      }
    },
  )
}

resource "aws_cloudwatch_metric_alarm" "this" {
  for_each = local.alarms

  alarm_name          = "stoker-${var.name}-${each.key}"
  alarm_description   = each.value.description
  namespace           = each.value.namespace
  metric_name         = each.value.metric
  statistic           = each.value.statistic
  dimensions          = each.value.dimensions
  comparison_operator = each.value.comparison
  threshold           = each.value.threshold
  period              = 60
  evaluation_periods  = each.value.periods
  treat_missing_data  = each.value.missing
  alarm_actions       = [aws_sns_topic.this.arn]
  ok_actions          = [aws_sns_topic.this.arn]
  tags                = var.tags
}
