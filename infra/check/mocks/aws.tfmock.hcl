# What AWS would have answered, where the configuration reads on in the answer.

mock_data "aws_caller_identity" {
  defaults = {
    account_id = "123456789012"
  }
}

mock_data "aws_partition" {
  defaults = {
    partition = "aws"
  }
}

mock_data "aws_region" {
  defaults = {
    id = "us-east-1"
  }
}

# Its text is computed by the provider; tests look at its statements instead.
mock_data "aws_iam_policy_document" {
  defaults = {
    json = "{\"Version\":\"2012-10-17\",\"Statement\":[]}"
  }
}

mock_data "aws_secretsmanager_random_password" {
  defaults = {
    random_password = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ012"
  }
}

mock_resource "aws_mq_broker" {
  defaults = {
    instances = [{ console_url = "https://b-1.mq.us-east-1.on.aws", endpoints = ["amqps://b-1.mq.us-east-1.on.aws:5671"], ip_address = "10.64.0.10" }]
  }
}

mock_resource "aws_db_instance" {
  defaults = {
    address            = "store.us-east-1.rds.amazonaws.com"
    master_user_secret = [{ kms_key_id = "key", secret_arn = "arn:aws:secretsmanager:us-east-1:123456789012:secret:rds-store", secret_status = "active" }]
  }
}

mock_resource "aws_kms_key" {
  defaults = {
    arn    = "arn:aws:kms:us-east-1:123456789012:key/11111111-2222-3333-4444-555555555555"
    key_id = "11111111-2222-3333-4444-555555555555"
  }
}

mock_resource "aws_secretsmanager_secret" {
  defaults = {
    id  = "arn:aws:secretsmanager:us-east-1:123456789012:secret:stoker/x-AbCdEf"
    arn = "arn:aws:secretsmanager:us-east-1:123456789012:secret:stoker/x-AbCdEf"
  }
}

mock_resource "aws_iam_role" {
  defaults = {
    arn  = "arn:aws:iam::123456789012:role/stoker"
    name = "stoker"
  }
}

mock_resource "aws_iam_instance_profile" {
  defaults = {
    arn = "arn:aws:iam::123456789012:instance-profile/stoker"
  }
}

mock_resource "aws_s3_bucket" {
  defaults = {
    id  = "stoker-bucket"
    arn = "arn:aws:s3:::stoker-bucket"
  }
}

mock_resource "aws_cloudwatch_log_group" {
  defaults = {
    arn = "arn:aws:logs:us-east-1:123456789012:log-group:stoker"
  }
}

mock_resource "aws_sns_topic" {
  defaults = {
    arn = "arn:aws:sns:us-east-1:123456789012:stoker-alerts"
  }
}

mock_resource "aws_prometheus_workspace" {
  defaults = {
    arn                 = "arn:aws:aps:us-east-1:123456789012:workspace/ws-1"
    prometheus_endpoint = "https://aps-workspaces.us-east-1.amazonaws.com/workspaces/ws-1/"
  }
}

mock_resource "aws_lb" {
  defaults = {
    arn        = "arn:aws:elasticloadbalancing:us-east-1:123456789012:loadbalancer/net/stoker/1"
    arn_suffix = "net/stoker/1"
    dns_name   = "stoker-1.elb.us-east-1.amazonaws.com"
  }
}

mock_resource "aws_lb_target_group" {
  defaults = {
    arn        = "arn:aws:elasticloadbalancing:us-east-1:123456789012:targetgroup/stoker/1"
    arn_suffix = "targetgroup/stoker/1"
  }
}

mock_resource "aws_launch_template" {
  defaults = {
    id             = "lt-0123456789abcdef0"
    arn            = "arn:aws:ec2:us-east-1:123456789012:launch-template/lt-0123456789abcdef0"
    latest_version = 7
  }
}

mock_resource "aws_subnet" {
  defaults = {
    id  = "subnet-0123456789abcdef0"
    arn = "arn:aws:ec2:us-east-1:123456789012:subnet/subnet-0123456789abcdef0"
  }
}

mock_resource "aws_vpc" {
  defaults = {
    id = "vpc-0123456789abcdef0"
  }
}

mock_resource "aws_security_group" {
  defaults = {
    id  = "sg-0123456789abcdef0"
    arn = "arn:aws:ec2:us-east-1:123456789012:security-group/sg-0123456789abcdef0"
  }
}

mock_resource "aws_ce_anomaly_monitor" {
  defaults = {
    arn = "arn:aws:ce::123456789012:anomalymonitor/1"
  }
}

mock_resource "aws_instance" {
  defaults = {
    private_ip = "10.64.0.20"
  }
}

mock_resource "aws_vpc_peering_connection" {
  defaults = {
    id = "pcx-0123456789abcdef0"
  }
}

mock_resource "aws_vpc_peering_connection_accepter" {
  defaults = {
    id = "pcx-0123456789abcdef0"
  }
}
