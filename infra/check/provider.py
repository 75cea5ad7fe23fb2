#!/usr/bin/env python3
"""A stand-in for Terraform's AWS provider that knows its schema and nothing else.

With it `terraform validate` and, with mocked providers, `terraform test` run where the provider cannot be downloaded:
every resource's and data source's arguments, blocks and types are checked against the schema of the version that
schema/ names. It accepts every value, and refuses to plan or apply anything for real.

Started by Terraform from a mirror that scripts/check-infra.sh builds; `check` beside it says what it cannot find.
"""

import base64
import gzip
import json
import os
import sys
import tempfile
from concurrent import futures

import grpc
from tf.gen import grpc_controller_pb2 as controller
from tf.gen import grpc_controller_pb2_grpc as controller_rpc
from tf.gen import grpc_stdio_pb2_grpc as stdio_rpc
from tf.gen import tfplugin_pb2 as plugin
from tf.gen import tfplugin_pb2_grpc as plugin_rpc
from tf.runner import _self_signed_cert

ADDRESS = "registry.terraform.io/hashicorp/aws"
COOKIE = "d602bf8f470bc67ca7faa0386276bbdd4330efaf76d1a219cb4d6991ca9872b2"
NESTING = {"single": 1, "list": 2, "set": 3, "map": 4, "group": 5}


def block(schema):
    """A block of the schema in the protocol's form."""
    attributes = [
        plugin.Schema.Attribute(
            name=name,
            type=json.dumps(attribute["type"]).encode(),
            required=attribute.get("required", False),
            optional=attribute.get("optional", False),
            computed=attribute.get("computed", False),
        )
        for name, attribute in sorted(schema.get("attributes", {}).items())
    ]
    blocks = [
        plugin.Schema.NestedBlock(
            type_name=name,
            block=block(nested["block"]),
            nesting=NESTING[nested["nesting_mode"]],
            min_items=nested.get("min_items", 0),
            max_items=nested.get("max_items", 0),
        )
        for name, nested in sorted(schema.get("block_types", {}).items())
    ]
    return plugin.Schema.Block(attributes=attributes, block_types=blocks)


def load(path):
    """The provider's answer to the question what it has."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        provider = json.load(file)["provider_schemas"][ADDRESS]

    def whole(schema):
        return plugin.Schema(version=schema.get("version", 0), block=block(schema["block"]))

    def all_of(kind):
        return {name: whole(schema) for name, schema in provider.get(kind, {}).items()}

    return plugin.GetProviderSchema.Response(
        provider=whole(provider["provider"]),
        resource_schemas=all_of("resource_schemas"),
        data_source_schemas=all_of("data_source_schemas"),
    )


def refuse(what):
    """Why something cannot be done here."""
    detail = f"{what} needs the real provider; tests mock it"
    return [plugin.Diagnostic(severity=1, summary="this provider only knows its schema", detail=detail)]


class Provider(plugin_rpc.ProviderServicer):
    """Answers what the schema answers."""

    def __init__(self, schema):
        self.schema = schema

    def GetMetadata(self, request, context):
        return plugin.GetMetadata.Response(
            resources=[plugin.GetMetadata.ResourceMetadata(type_name=name) for name in self.schema.resource_schemas],
            data_sources=[
                plugin.GetMetadata.DataSourceMetadata(type_name=name) for name in self.schema.data_source_schemas
            ],
        )

    def GetProviderSchema(self, request, context):
        return self.schema

    def ValidateProviderConfig(self, request, context):
        return plugin.ValidateProviderConfig.Response()

    def ValidateResourceConfig(self, request, context):
        return plugin.ValidateResourceConfig.Response()

    def ValidateDataResourceConfig(self, request, context):
        return plugin.ValidateDataResourceConfig.Response()

    def GetFunctions(self, request, context):
        return plugin.GetFunctions.Response()

    def ConfigureProvider(self, request, context):
        return plugin.ConfigureProvider.Response()

    def UpgradeResourceState(self, request, context):
        return plugin.UpgradeResourceState.Response(diagnostics=refuse("reading a state"))

    def ReadResource(self, request, context):
        return plugin.ReadResource.Response(diagnostics=refuse("reading a resource"))

    def PlanResourceChange(self, request, context):
        return plugin.PlanResourceChange.Response(diagnostics=refuse("planning"))

    def ApplyResourceChange(self, request, context):
        return plugin.ApplyResourceChange.Response(diagnostics=refuse("applying"))

    def ReadDataSource(self, request, context):
        return plugin.ReadDataSource.Response(diagnostics=refuse("reading a data source"))

    def StopProvider(self, request, context):
        return plugin.StopProvider.Response()


def main():
    if os.environ.get("TF_PLUGIN_MAGIC_COOKIE") != COOKIE:
        sys.exit("provider.py is started by Terraform, not by hand")
    server = grpc.server(futures.ThreadPoolExecutor(8), options=[("grpc.max_send_message_length", -1)])

    class Controller(controller_rpc.GRPCControllerServicer):
        def Shutdown(self, request, context):
            server.stop(0)
            return controller.Empty()

    class Stdio(stdio_rpc.GRPCStdioServicer):
        def StreamStdio(self, request, context):
            return iter([])

    plugin_rpc.add_ProviderServicer_to_server(Provider(load(os.environ["STOKER_PROVIDER_SCHEMA"])), server)
    controller_rpc.add_GRPCControllerServicer_to_server(Controller(), server)
    stdio_rpc.add_GRPCStdioServicer_to_server(Stdio(), server)
    with tempfile.TemporaryDirectory() as folder:
        chain, credentials = _self_signed_cert()
        server.add_secure_port(f"unix://{folder}/socket", credentials)
        server.start()
        certificate = base64.b64encode(chain).decode().rstrip("=")
        print(f"1|6|unix|{folder}/socket|grpc|{certificate}", flush=True)
        server.wait_for_termination()


if __name__ == "__main__":
    main()
