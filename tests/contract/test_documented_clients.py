# SPDX-License-Identifier: Apache-2.0
"""What the pages show of clients, as a reader would paste it: each block in Python or of curl that asks a server."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyinfer.testing import RunningServer, run_server

ROOT = Path(__file__).resolve().parents[2]
#: models of the example repository that need no file to be fetched
MODELS = ("add_sub", "identity", "words")
#: of what blocks ask that are not run here: models that only the page has, and a picture of the reader's
OTHERS = ("/models/digits/", "/models/resnet/", '"text_reading"')


def blocks() -> Iterator[tuple[str, str, str]]:
    """Where it stands, its language and its text."""
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        text = page.read_text()
        for block in re.finditer(r"^```(python|sh)\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            language, code = block.groups()
            asks = re.search(r"(localhost|127\.0\.0\.1):800[0-2]|run_server\(", code)
            is_command = language == "sh" and not code.startswith("curl ")
            if asks and not is_command and not any(other in code for other in OTHERS):
                yield f"{page.name}:{text.count(chr(10), 0, block.start()) + 1}", language, code


BLOCKS = list(blocks())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    repository: Path = tmp_path_factory.mktemp("documented")
    for name in MODELS:
        shutil.copytree(ROOT / "model_repository" / name, repository / name)
    traces = f"--trace-config=triton,file={tmp_path_factory.mktemp('traces') / 'traces'}"
    with run_server(repository, "--allow-client-shm=true", traces) as running:
        yield running


def test_blocks_of_both_languages_are_found() -> None:
    assert {language for _, language, _ in BLOCKS} == {"python", "sh"}
    assert {where.partition(":")[0] for where, _, _ in BLOCKS} >= {"README.md", "getting-started.md", "http.md"}


@pytest.mark.parametrize(("language", "code"), [block[1:] for block in BLOCKS], ids=[block[0] for block in BLOCKS])
def test_it_runs_as_it_is_printed(server: RunningServer, tmp_path: Path, language: str, code: str) -> None:
    for port, address in (("8000", server.http), ("8001", server.grpc), ("8002", server.metrics)):
        code = re.sub(rf"(localhost|127\.0\.0\.1):{port}", address, code)
    if language == "python":
        command = [sys.executable, "-c", code]
    elif shutil.which("curl") is None:
        pytest.skip("there is no curl")
    else:
        # a sanitizer's runtime is for our code: curl hangs where ThreadSanitizer's is loaded before it
        command = ["env", "--unset=LD_PRELOAD", "sh", "-ec", re.sub(r"(?m)^curl ", "curl --fail-with-body ", code)]
    (tmp_path / "model_repository").symlink_to(ROOT / "model_repository")
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
