# SPDX-License-Identifier: Apache-2.0
"""The messages: complete, wire-compatible with tritonclient's, and in a pool of their own."""

import subprocess
import sys

import pytest
from google.protobuf import descriptor_pool

from pyinfer.config.messages import message, pool

SERVICES = {
    "inference.GRPCInferenceService": [
        *(
            "ServerLive",
            "ServerReady",
            "ModelReady",
            "ServerMetadata",
            "ModelMetadata",
            "ModelInfer",
            "ModelStreamInfer",
        ),
        *("ModelConfig", "ModelStatistics", "RepositoryIndex", "RepositoryModelLoad", "RepositoryModelUnload"),
        *("SystemSharedMemoryStatus", "SystemSharedMemoryRegister", "SystemSharedMemoryUnregister"),
        *("CudaSharedMemoryStatus", "CudaSharedMemoryRegister", "CudaSharedMemoryUnregister"),
        *("TraceSetting", "LogSettings"),
    ],
    "grpc.health.v1.Health": ["Check", "Watch"],
}

# newer than the oldest tritonclient that we test with: number of each
NEW_FIELDS = {
    "ModelConfig": {"runtime": 25, "model_metrics": 26},
    "ModelInput": {"is_non_linear_format_io": 9},
    "ModelOutput": {"is_non_linear_format_io": 7},
    "ModelEnsembling": {"max_inflight_requests": 2},
    "ModelStatistics": {"response_stats": 9},
    "InferResponseStatistics": {
        "compute_infer": 1,
        "compute_output": 2,
        "success": 3,
        "fail": 4,
        "empty_response": 5,
        "cancel": 6,
    },
}


def _shape(descriptor):
    """Everything of a message that reaches the wire or the text format, below and including it."""
    fields = {
        field.name: (
            field.number,
            field.type,
            isinstance(field.default_value, list),
            field.containing_oneof.name if field.containing_oneof else None,
            field.message_type.full_name if field.message_type else field.enum_type and field.enum_type.full_name,
        )
        for field in descriptor.fields
    }
    enums = {enum.full_name: [(value.name, value.number) for value in enum.values] for enum in descriptor.enum_types}
    nested = {one.name: _shape(one) for one in descriptor.nested_types}
    return fields, enums, nested


def _assert_contains(ours, theirs, where):
    for mine, other in zip(ours[:2], theirs[:2], strict=True):
        for name, value in other.items():
            assert mine.get(name) == value, f"{where}.{name}"
    for name, other in theirs[2].items():
        _assert_contains(ours[2][name], other, f"{where}.{name}")


@pytest.mark.parametrize(("service", "methods"), SERVICES.items())
def test_services_are_complete(service, methods):
    assert sorted(pool().FindServiceByName(service).methods_by_name) == sorted(methods)


def test_every_message_of_tritonclient_is_ours_with_the_same_numbers():
    from tritonclient.grpc import model_config_pb2, service_pb2

    count = 0
    for module in (model_config_pb2, service_pb2):
        for name, theirs in module.DESCRIPTOR.message_types_by_name.items():
            _assert_contains(_shape(message(name).DESCRIPTOR), _shape(theirs), name)
            count += 1
    assert count > 60


def test_methods_have_the_types_of_tritonclient():
    from tritonclient.grpc import service_pb2

    ours = pool().FindServiceByName("inference.GRPCInferenceService").methods_by_name
    for theirs in service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods:
        mine = ours[theirs.name]
        assert mine.input_type.full_name == theirs.input_type.full_name
        assert mine.output_type.full_name == theirs.output_type.full_name
        assert (mine.client_streaming, mine.server_streaming) == (theirs.client_streaming, theirs.server_streaming)


@pytest.mark.parametrize("name", NEW_FIELDS)
def test_newer_fields(name):
    numbers = {field.name: field.number for field in message(name).DESCRIPTOR.fields}
    assert NEW_FIELDS[name].items() <= numbers.items()


def test_data_types():
    unsigned = ["UINT8", "UINT16", "UINT32", "UINT64"]
    signed = ["INT8", "INT16", "INT32", "INT64"]
    names = ["INVALID", "BOOL", *unsigned, *signed, "FP16", "FP32", "FP64", "STRING", "BF16"]
    enum = pool().FindEnumTypeByName("inference.DataType")
    assert [(value.name, value.number) for value in enum.values] == [(f"TYPE_{n}", i) for i, n in enumerate(names)]


def test_health_messages():
    answer = message("grpc.health.v1.HealthCheckResponse")(status="NOT_SERVING")
    assert answer.SerializeToString() == b"\x08\x02"
    assert message("grpc.health.v1.HealthCheckRequest")(service="x").SerializeToString() == b"\x0a\x01x"


def test_bytes_are_exchanged_with_tritonclient():
    from tritonclient.grpc import service_pb2

    theirs = service_pb2.ModelMetadataResponse(name="m", versions=["1"])
    theirs.inputs.add(name="x", datatype="FP32", shape=[-1, 16])
    ours = message("ModelMetadataResponse").FromString(theirs.SerializeToString())
    assert ours.inputs[0].shape == [-1, 16]
    assert ours.SerializeToString(deterministic=True) == theirs.SerializeToString(deterministic=True)


def test_the_default_pool_is_untouched_and_ours_is_made_once():
    assert pool() is pool()
    assert pool() is not descriptor_pool.Default()
    assert message("ModelConfig") is message("ModelConfig")


@pytest.mark.parametrize("order", ["client first", "server first"])
def test_both_are_importable_in_one_process(order):
    client = "import tritonclient.grpc as c"
    server = "from pyinfer.config.messages import message; message('ModelConfig')"
    first, second = (client, server) if order == "client first" else (server, client)
    check = "assert c.model_config_pb2.ModelConfig is not message('ModelConfig')"
    subprocess.run([sys.executable, "-W", "ignore", "-c", "\n".join([first, second, check])], check=True, timeout=60)


def test_unknown_name():
    with pytest.raises(KeyError):
        message("ModelConfiguration")
