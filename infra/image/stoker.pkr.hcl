# The image of every machine of a fleet: Debian 12 with Stoker's programs, its units and scripts, and for workers the
# NVIDIA driver and CUDA's libraries.
#
#   make build-ec2 && make engine-cuda CUDA_COMPUTE_CAP=86
#   packer init infra/image && packer build -var regions='["us-east-1"]' infra/image
#
# The build machine is reached through Session Manager: no port is opened.

packer {
  required_version = ">= 1.9"

  required_plugins {
    amazon = {
      source  = "github.com/hashicorp/amazon"
      version = ">= 1.3"
    }
  }
}

variable "regions" {
  type        = list(string)
  description = "Regions that get the image; it is built in the first."
}

variable "programs" {
  type        = string
  description = "Folder with the programs, as `make build-ec2` and `make engine-cuda` leave it."
  default     = "target/release"
}

variable "gpu" {
  type        = bool
  description = "Install the NVIDIA driver and CUDA's libraries. The image for GPUs runs on machines without one as well."
  default     = true
}

variable "cuda" {
  type        = string
  description = "Version of CUDA's libraries, as NVIDIA's packages have it in their names."
  default     = "13-0"
}

variable "instance_type" {
  type        = string
  description = "Type of the build machine. It needs no GPU."
  default     = "m7i.large"
}

variable "disk_gb" {
  type        = number
  description = "Size of the image. A small one starts faster: its blocks are fetched as they are read."
  default     = 20
}

variable "kms_keys" {
  type        = map(string)
  description = "Key that encrypts the image, by region. Left out: the one that AWS manages for EBS."
  default     = {}
}

locals {
  time = formatdate("YYYYMMDD-hhmm", timestamp())
  name = "stoker-${local.time}"
}

data "amazon-ami" "debian" {
  region      = var.regions[0]
  owners      = ["136693071363"] # Debian
  most_recent = true

  filters = {
    name                = "debian-12-amd64-*"
    virtualization-type = "hvm"
    root-device-type    = "ebs"
  }
}

source "amazon-ebs" "stoker" {
  region          = var.regions[0]
  source_ami      = data.amazon-ami.debian.id
  instance_type   = var.instance_type
  ami_name        = local.name
  ami_description = "Stoker on Debian 12, built ${local.time}"
  ami_regions     = var.regions

  encrypt_boot       = true
  region_kms_key_ids = { for region in var.regions : region => lookup(var.kms_keys, region, "alias/aws/ebs") }

  communicator  = "ssh"
  ssh_username  = "admin"
  ssh_interface = "session_manager"

  # Debian's image has no agent for sessions yet.
  user_data = <<-EOF
    #!/bin/sh
    set -eu
    curl -fsSo /tmp/agent.deb https://s3.${var.regions[0]}.amazonaws.com/amazon-ssm-${var.regions[0]}/latest/debian_amd64/amazon-ssm-agent.deb
    dpkg -i /tmp/agent.deb
    EOF

  temporary_iam_instance_profile_policy_document {
    Version = "2012-10-17"
    Statement {
      Effect   = "Allow"
      Resource = ["*"]
      Action = [
        "ssm:UpdateInstanceInformation",
        "ssmmessages:CreateControlChannel", "ssmmessages:CreateDataChannel",
        "ssmmessages:OpenControlChannel", "ssmmessages:OpenDataChannel",
      ]
    }
  }

  imds_support = "v2.0"

  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  launch_block_device_mappings {
    device_name           = "/dev/xvda"
    volume_type           = "gp3"
    volume_size           = var.disk_gb
    delete_on_termination = true
    encrypted             = true
  }

  tags          = { Name = local.name, "stoker:image" = local.time }
  snapshot_tags = { Name = local.name, "stoker:image" = local.time }
  run_tags      = { Name = "${local.name}-build" }
}

build {
  sources = ["source.amazon-ebs.stoker"]

  provisioner "shell" {
    inline = ["mkdir -p /tmp/stoker/programs"]
  }

  provisioner "file" {
    sources     = ["${path.root}/lib", "${path.root}/etc", "${path.root}/../systemd"]
    destination = "/tmp/stoker/"
  }

  provisioner "file" {
    # Absolute: `fileset` looks from this file's folder, and uploads begin where packer was started.
    sources     = [for program in fileset(abspath(var.programs), "stoker*") : "${abspath(var.programs)}/${program}" if length(regexall("[.]d$", program)) == 0]
    destination = "/tmp/stoker/programs/"
  }

  provisioner "shell" {
    script          = "${path.root}/provision.sh"
    execute_command = "sudo env {{ .Vars }} bash {{ .Path }}"
    environment_vars = [
      "GPU=${var.gpu ? 1 : 0}",
      "CUDA=${var.cuda}",
    ]
  }

  # The IDs to put into `ami_id` of each region.
  post-processor "manifest" {
    output     = "target/image.json"
    strip_path = true
  }
}
