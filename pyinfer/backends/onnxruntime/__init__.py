# SPDX-License-Identifier: Apache-2.0
"""The ``onnxruntime`` backend: ONNX models on ONNX Runtime's CPU (or configured) execution provider.

``backend`` holds sessions and runs batches, ``options`` turns a configuration into session options, ``signature``
completes and checks configurations against the model, and ``external`` keeps a model from reading files that are not
its own.
"""

from __future__ import annotations

from pyinfer.backends.onnxruntime.backend import OnnxRuntimeBackend

__all__ = ["OnnxRuntimeBackend"]
