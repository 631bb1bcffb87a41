# SPDX-License-Identifier: Apache-2.0
"""Server reflection, by the client that grpcio brings for it, and by bare messages under both names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from pyinfer.config.messages import message
from pyinfer.testing import RunningServer

PACKAGES = ["grpc.reflection.v1", "grpc.reflection.v1alpha"]
SERVICES = [
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
    "inference.GRPCInferenceService",
]


@pytest.fixture
def channel(server: RunningServer) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.grpc) as made:
        yield made


def ask(channel: grpc.Channel, package: str, *questions: dict[str, Any]) -> list[Any]:
    kind = message(f"{package}.ServerReflectionRequest")
    call = channel.stream_stream(f"/{package}.ServerReflection/ServerReflectionInfo")
    requests = iter([kind(**question).SerializeToString() for question in questions])
    answer = message(f"{package}.ServerReflectionResponse")
    return [answer.FromString(response) for response in call(requests, timeout=100)]


def test_a_client_that_knows_nothing_can_call(channel: grpc.Channel) -> None:
    database = ProtoReflectionDescriptorDatabase(channel)
    assert sorted(database.get_services()) == SERVICES
    pool = descriptor_pool.DescriptorPool(database)
    service = pool.FindServiceByName("inference.GRPCInferenceService")
    method = service.methods_by_name["ServerMetadata"]
    request = message_factory.GetMessageClass(method.input_type)()
    answer = channel.unary_unary(f"/{service.full_name}/{method.name}")(request.SerializeToString(), timeout=60)
    metadata: Any = message_factory.GetMessageClass(method.output_type).FromString(answer)
    assert metadata.name == "triton"


@pytest.mark.parametrize("package", PACKAGES)
def test_files_come_with_what_they_import(channel: grpc.Channel, package: str) -> None:
    for question in (
        {"file_by_filename": "inference.proto"},
        {"file_containing_symbol": "inference.GRPCInferenceService"},
        {"file_containing_symbol": "inference.ModelInferRequest.InferInputTensor"},
    ):
        (response,) = ask(channel, package, {"host": "h", **question})
        assert response.valid_host == "h"
        assert response.original_request.host == "h"
        files = [
            descriptor_pb2.FileDescriptorProto.FromString(file)
            for file in response.file_descriptor_response.file_descriptor_proto
        ]
        assert [file.name for file in files] == ["inference.proto", "model_config.proto"]


@pytest.mark.parametrize("package", PACKAGES)
def test_questions_without_an_answer(channel: grpc.Channel, package: str) -> None:
    questions: list[dict[str, Any]] = [
        {"file_by_filename": "none.proto"},
        {"file_containing_symbol": "none.Nothing"},
        {"file_containing_symbol": ""},
        {"file_containing_extension": {"containing_type": "inference.ModelConfig", "extension_number": 5}},
        {"file_containing_extension": {"containing_type": "none", "extension_number": 5}},
        {"all_extension_numbers_of_type": "none"},
    ]
    for response in ask(channel, package, *questions):
        assert response.error_response.error_code == 5
        assert response.error_response.error_message
    (nothing,) = ask(channel, package, {})
    assert nothing.error_response.error_code == 3
    numbers, services = ask(
        channel, package, {"all_extension_numbers_of_type": "inference.ModelConfig"}, {"list_services": ""}
    )
    assert numbers.all_extension_numbers_response.base_type_name == "inference.ModelConfig"
    assert list(numbers.all_extension_numbers_response.extension_number) == []
    assert [service.name for service in services.list_services_response.service] == SERVICES


def test_many_questions_on_one_stream(channel: grpc.Channel) -> None:
    responses = ask(channel, PACKAGES[0], *[{"file_by_filename": "inference.proto"}] * 2000)
    assert len(responses) == 2000
    assert all(response.file_descriptor_response.file_descriptor_proto for response in responses)


def test_a_question_that_is_no_message(channel: grpc.Channel) -> None:
    call = channel.stream_stream(f"/{PACKAGES[0]}.ServerReflection/ServerReflectionInfo")
    with pytest.raises(grpc.RpcError) as caught:
        list(call(iter([b"\x0a\x05a"]), timeout=60))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
