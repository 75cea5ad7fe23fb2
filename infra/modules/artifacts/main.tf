# The bucket that machines read at boot: fleet.toml and the models' weights.

data "aws_partition" "current" {}
data "aws_caller_identity" "current" {}

resource "aws_s3_bucket" "this" {
  # checkov:skip=CKV_AWS_18: who reads weights is recorded by CloudTrail's data events where a company wants it; a log bucket of our own would have to be watched too
  # checkov:skip=CKV_AWS_144: fleet.toml is in version control, and weights can be fetched again from where they came
  # checkov:skip=CKV2_AWS_62: nothing acts on changes of this bucket
  bucket        = "stoker-${var.name}-${data.aws_caller_identity.current.account_id}"
  force_destroy = !var.deletion_protection
  tags          = var.tags
}

resource "aws_s3_bucket_public_access_block" "this" {
  bucket                  = aws_s3_bucket.this.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_versioning" "this" {
  bucket = aws_s3_bucket.this.id
  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "this" {
  bucket = aws_s3_bucket.this.id
  rule {
    # One data key for the bucket instead of one for each object: a fleet that boots reads many objects at once.
    bucket_key_enabled = true
    apply_server_side_encryption_by_default {
      sse_algorithm     = "aws:kms"
      kms_master_key_id = var.kms_key_arn
    }
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "this" {
  bucket = aws_s3_bucket.this.id
  rule {
    id     = "old-versions"
    status = "Enabled"
    filter {}
    noncurrent_version_expiration {
      noncurrent_days = 30
    }
    abort_incomplete_multipart_upload {
      days_after_initiation = 7
    }
  }
  depends_on = [aws_s3_bucket_versioning.this]
}

data "aws_iam_policy_document" "bucket" {
  statement {
    sid       = "TlsOnly"
    effect    = "Deny"
    actions   = ["s3:*"]
    resources = [aws_s3_bucket.this.arn, "${aws_s3_bucket.this.arn}/*"]
    principals {
      type        = "AWS"
      identifiers = ["*"]
    }
    condition {
      test     = "Bool"
      variable = "aws:SecureTransport"
      values   = ["false"]
    }
  }
}

resource "aws_s3_bucket_policy" "this" {
  bucket     = aws_s3_bucket.this.id
  policy     = data.aws_iam_policy_document.bucket.json
  depends_on = [aws_s3_bucket_public_access_block.this]
}

resource "aws_s3_object" "fleet" {
  bucket        = aws_s3_bucket.this.id
  key           = "config/fleet.toml"
  content       = var.fleet_toml
  content_type  = "application/toml"
  kms_key_id    = var.kms_key_arn
  source_hash   = md5(var.fleet_toml)
  force_destroy = !var.deletion_protection
  tags          = var.tags
}

# Who signed the certificate of a broker of one's own; not a secret.
resource "aws_s3_object" "broker_ca" {
  count = var.broker_ca_pem == null ? 0 : 1

  bucket        = aws_s3_bucket.this.id
  key           = "config/broker-ca.pem"
  content       = var.broker_ca_pem
  content_type  = "application/x-pem-file"
  kms_key_id    = var.kms_key_arn
  source_hash   = md5(var.broker_ca_pem)
  force_destroy = !var.deletion_protection
  tags          = var.tags
}

# AWS's certificates, by which workers prove their machine; not a secret.
resource "aws_s3_object" "identity" {
  count = var.identity_certificates_pem == null ? 0 : 1

  bucket        = aws_s3_bucket.this.id
  key           = "config/identity.pem"
  content       = var.identity_certificates_pem
  content_type  = "application/x-pem-file"
  kms_key_id    = var.kms_key_arn
  source_hash   = md5(var.identity_certificates_pem)
  force_destroy = !var.deletion_protection
  tags          = var.tags
}
