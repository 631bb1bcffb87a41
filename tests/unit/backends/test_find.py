# SPDX-License-Identifier: Apache-2.0
"""Names of backends become classes; what is missing is told with its remedy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pyinfer.backends.find import find_backend, installed_backends
from pyinfer.errors import ConfigError, ModelError


def install(directory: Path, name: str, target: str) -> None:
    """What pip leaves of a package with one backend: its dist-info."""
    info = directory / f"{name}_backend-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}-backend\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[pyinfer.backends]\n{name} = {target}\n")


@pytest.mark.parametrize("name", ["identity", "onnxruntime", "python"])
def test_builtin(name: str) -> None:
    assert find_backend(name).__module__.startswith(f"pyinfer.backends.{name}")


def test_unknown_lists_installed() -> None:
    with pytest.raises(ConfigError) as caught:
        find_backend("tensorrt")
    assert "unable to find backend 'tensorrt': installed are identity, onnxruntime, python" in str(caught.value)


def test_builtin_resolves_without_scanning_or_importing_others() -> None:
    code = (
        "import sys; from pyinfer.backends.find import find_backend; find_backend('identity');"
        "print([m for m in ('onnxruntime', 'numpy', 'pyinfer.backends.python') if m in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_missing_package_names_the_extra() -> None:
    code = (
        "import sys; sys.modules['onnxruntime'] = None\n"
        "from pyinfer.backends.find import find_backend\n"
        "try: find_backend('onnxruntime')\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.startswith("ModelError") and "pip install 'pyinfer[onnx]'" in ran.stdout


def test_third_party_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "doubling", "pyinfer.backends.identity:IdentityBackend")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert find_backend("doubling").__name__ == "IdentityBackend"
    assert installed_backends() == ["doubling", "identity", "onnxruntime", "python"]


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("nowhere_to_be_found:Class", "could not be imported from 'nowhere_to_be_found:Class': ModuleNotFoundError"),
        ("pyinfer.errors:PyinferError", "not a subclass of pyinfer.backends.base.Backend"),
        ("pyinfer.errors:Absent", "AttributeError (Absent)"),
    ],
)
def test_broken_third_party(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, expected: str) -> None:
    install(tmp_path, "broken", target)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModelError) as caught:
        find_backend("broken")
    assert expected in str(caught.value)
