# Where metrics go and what wakes somebody: a Prometheus workspace with the alert rules of infra/observability, and
# one topic for alerts, alarms and budgets.

data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}
data "aws_region" "current" {}

locals {
  account = data.aws_caller_identity.current.account_id
}

resource "aws_cloudwatch_log_group" "prometheus" {
  # checkov:skip=CKV_AWS_338: complaints about rules and rejected samples are of use for days, not for a year
  name              = "/aws/vendedlogs/stoker/${var.name}/prometheus"
  retention_in_days = 30
  kms_key_id        = var.kms_key_arn
  tags              = var.tags
}

resource "aws_prometheus_workspace" "this" {
  alias       = "stoker-${var.name}"
  kms_key_arn = var.kms_key_arn
  tags        = var.tags

  logging_configuration {
    log_group_arn = "${aws_cloudwatch_log_group.prometheus.arn}:*"
  }
}

resource "aws_prometheus_rule_group_namespace" "this" {
  for_each = var.rules

  workspace_id = aws_prometheus_workspace.this.id
  name         = each.key
  data         = each.value
}

resource "aws_prometheus_alert_manager_definition" "this" {
  workspace_id = aws_prometheus_workspace.this.id
  definition = yamlencode({
    alertmanager_config = yamlencode({
      route = {
        receiver        = "people"
        group_by        = ["alertname", "fleet"]
        group_wait      = "30s"
        group_interval  = "5m"
        repeat_interval = "4h"
      }
      receivers = [{
        name = "people"
        sns_configs = [{
          topic_arn     = aws_sns_topic.this.arn
          subject       = "stoker ${var.name}: {{ .CommonLabels.alertname }}"
          send_resolved = true
          sigv4         = { region = data.aws_region.current.id }
          message       = "{{ range .Alerts }}{{ .Status }} {{ .Labels.severity }}: {{ .Annotations.summary }}\n{{ .Annotations.description }}\n{{ .Annotations.runbook }}\n\n{{ end }}"
        }]
      }]
    })
  })
}

resource "aws_sns_topic" "this" {
  name              = "stoker-${var.name}-alerts"
  kms_master_key_id = var.kms_key_arn
  tags              = var.tags
}

data "aws_iam_policy_document" "topic" {
  statement {
    sid       = "AlertsOfThisAccount"
    actions   = ["sns:GetTopicAttributes", "sns:Publish"]
    resources = [aws_sns_topic.this.arn]
    principals {
      type = "Service"
      identifiers = [
        "aps.amazonaws.com", "budgets.amazonaws.com", "cloudwatch.amazonaws.com", "costalerts.amazonaws.com",
      ]
    }
    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [local.account]
    }
  }
}

resource "aws_sns_topic_policy" "this" {
  arn    = aws_sns_topic.this.arn
  policy = data.aws_iam_policy_document.topic.json
}

resource "aws_sns_topic_subscription" "email" {
  for_each = toset(var.emails)

  topic_arn = aws_sns_topic.this.arn
  protocol  = "email"
  endpoint  = each.key
}
