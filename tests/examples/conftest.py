# SPDX-License-Identifier: Apache-2.0
"""The example repository with its model files in place, and the client halves of its models as modules."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


@pytest.fixture(scope="session")
def models(repository_root: Path) -> Path:
    """``model_repository`` after ``fetch.py``, which finds everything in place where it has run before."""
    folder = repository_root / "model_repository"
    done = subprocess.run([sys.executable, folder / "fetch.py"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="session")
def client_of(models: Path) -> Callable[[str], ModuleType]:
    """``client_of("magika")`` -> the module ``magika/client.py``, leaving no ``__pycache__`` in the repository."""

    def load(model: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(f"{model}_client", models / model / "client.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
        try:
            sys.modules[spec.name] = module
            spec.loader.exec_module(module)
        finally:
            sys.dont_write_bytecode = before
        return module

    return load


@pytest.fixture(scope="session")
def session_of(models: Path) -> Callable[[str], Any]:
    """``session_of("magika")`` -> onnxruntime itself on that model: what a server must agree with."""
    import onnxruntime

    onnxruntime.set_default_logger_severity(3)  # one of the models carries initializers that it does not use
    return lambda model: onnxruntime.InferenceSession(
        str(models / model / "1" / "model.onnx"), providers=["CPUExecutionProvider"]
    )
