# Somebody is told.

mock_provider "aws" {
  source = "../../check/mocks"
}

variables {
  name                      = "test"
  rules                     = { fleet = "groups:\n  - name: fleet\n    rules:\n      - alert: Up\n        expr: up == 0\n" }
  emails                    = ["oncall@example.com"]
  store_identifier          = "stoker-test"
  broker_name               = "stoker-test"
  broker_memory_alarm_bytes = 1400000000
  load_balancer             = "net/stoker/1"
  target_group              = "targetgroup/stoker/1"
  grafana                   = true
  kms_key_arn               = "arn:aws:kms:us-east-1:123456789012:key/1"
}

run "alerts_reach_people" {
  assert {
    condition     = strcontains(aws_prometheus_alert_manager_definition.this.definition, aws_sns_topic.this.arn)
    error_message = "the alert manager writes to the topic"
  }
  assert {
    condition     = yamldecode(yamldecode(aws_prometheus_alert_manager_definition.this.definition).alertmanager_config).route.receiver == "people"
    error_message = "the definition is what the alert manager reads"
  }
  assert {
    condition     = alltrue([for alarm in aws_cloudwatch_metric_alarm.this : length(alarm.alarm_actions) == 1 && alarm.alarm_description != ""])
    error_message = "each alarm reaches the topic and says what to do"
  }
}

run "everything_is_encrypted" {
  command = plan
  assert {
    condition     = aws_prometheus_workspace.this.kms_key_arn == var.kms_key_arn && aws_sns_topic.this.kms_master_key_id == var.kms_key_arn && aws_cloudwatch_log_group.prometheus.kms_key_id == var.kms_key_arn
    error_message = "metrics, alerts and logs are encrypted with the fleet's key"
  }
}

run "a_cluster_of_ones_own_has_no_alarms_of_amazon_mq" {
  command = plan
  variables {
    broker_name = null
  }
  assert {
    condition     = !can(aws_cloudwatch_metric_alarm.this["broker-memory"])
    error_message = "there is nothing to measure"
  }
}

run "alerts_to_nobody_are_refused" {
  command = plan
  variables {
    emails = []
  }
  expect_failures = [var.emails]
}

run "rules_that_are_none_are_refused" {
  command = plan
  variables {
    rules = { bad = "nothing: here" }
  }
  expect_failures = [var.rules]
}
