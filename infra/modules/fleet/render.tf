# What people and programs need to know of all this, as text to paste.

locals {
  provider_toml = join("\n", concat(
    ["# Made by Terraform: what machines of this fleet are launched from."],
    flatten([
      for index, fleet in local.fleets : concat(
        [
          "",
          "[provider.ec2.${local.regions[index]}]",
          "subnets = { ${join(", ", [for zone, subnet in fleet.subnets : "${zone} = ${jsonencode(subnet)}"])} }",
        ],
        flatten([
          for pool, template in fleet.launch_templates : [
            "",
            "[provider.ec2.${local.regions[index]}.launch-templates.${pool}]",
            "id = ${jsonencode(template.id)}",
            "version = ${jsonencode(tostring(template.version))}",
          ]
        ]),
      )
    ]),
    [""],
  ))

  # The autoscaler buys from it; without one, nobody needs it.
  fleet_toml = var.autoscaler.instances == 0 ? var.fleet_toml : "${trimspace(var.fleet_toml)}\n\n${local.provider_toml}"

  env = join("\n", [
    "export AWS_REGION=${local.home.name}",
    "export STOKER_FLEET_NAME=${var.name}",
    "export STOKER_TUNNEL=${coalesce(module.coordinator.public_address, module.coordinator.address)}",
    "export STOKER_TUNNEL_SECRET=${module.coordinator.tunnel_secret_arns["operator"]}",
    "export STOKER_OPERATOR_SECRET=${module.coordinator.token_secret_arns["operator"]}",
    "export STOKER_WEIGHTS=s3://${module.artifacts.bucket}/weights/",
    "",
  ])
}
