# SPDX-License-Identifier: Apache-2.0
"""All sections of the suite, by name: what is sent, to which pair of servers, and what is left out of comparison."""

from __future__ import annotations

from differential import normalise
from differential.case import Section
from differential.corpus import grpc_control, grpc_infer, http_binary, http_control, http_infer, http_parameters

__all__ = ["SECTIONS"]

_SECTIONS = (
    Section("http-verbs", http_control.verbs),
    Section("http-paths", http_control.paths, normalise=(normalise.server_version,)),
    Section("http-health", http_control.health, normalise=(normalise.server_version,)),
    Section("http-metadata", http_control.metadata, normalise=(normalise.statistics,)),
    Section("http-types", http_infer.types),
    Section("http-shapes", http_infer.shapes),
    Section("http-documents", http_infer.documents),
    Section("http-members", http_infer.members),
    Section("http-versions", http_infer.versions),
    Section("http-parameters", http_parameters.parameters, normalise=(normalise.model_view,)),
    Section("http-tensor-parameters", http_parameters.tensor_parameters, normalise=(normalise.model_view,)),
    Section("http-outputs", http_parameters.outputs),
    Section("http-classification", http_parameters.classification),
    Section("http-model-errors", http_parameters.model_errors),
    Section("http-binary", http_binary.binary),
    Section("http-raw", http_binary.raw),
    Section("http-compression", http_binary.compression, normalise=(normalise.server_version,)),
    Section("grpc-control", grpc_control.control, normalise=(normalise.server_version, normalise.statistics)),
    Section("grpc-malformed", grpc_control.malformed),
    Section("grpc-contents", grpc_infer.contents),
    Section("grpc-raw", grpc_infer.raw),
    Section("grpc-shapes", grpc_infer.shapes),
    Section("grpc-members", grpc_infer.members),
    Section("grpc-versions", grpc_infer.versions),
    Section("grpc-parameters", grpc_infer.parameters, normalise=(normalise.model_view,)),
    Section("grpc-tensor-parameters", grpc_infer.tensor_parameters, normalise=(normalise.model_view,)),
    Section("grpc-classification", grpc_infer.classification),
    Section("grpc-model-errors", grpc_infer.model_errors),
)

SECTIONS: dict[str, Section] = {section.name: section for section in _SECTIONS}
