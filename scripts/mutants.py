# SPDX-License-Identifier: Apache-2.0
"""Shows that the simulation of the scheduler catches planted bugs.

For each ``tests/core/mutations/*.patch``: the one source file that it changes is compiled anew, linked before the built
core, and the simulation has to fail with it, and not without. Exits with 1 where one passes. Needs ``make install``.

Usage: ``mutants.py [WORD...]``: those whose names contain one of the words; default: all.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PATCHES = ROOT / "tests/core/mutations"
BUILD = ROOT / "build/release"
SEEDS = 100_000
#: most bugs are found in fewer: what is linked in the same way without a bug has to pass so many
SOUND_SEEDS = 5_000
SECONDS = 300  # for one mutant; a scheduler that hangs is ended by the simulation itself, long before
COMPILER = os.environ.get("CXX", "c++")
LIBRARIES = ["libnghttp2", "simdjson", "zlib", "re2"]


def run(*command: str | Path, cwd: Path = ROOT) -> str:
    return subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True).stdout


def link(folder: Path, libraries: list[str], *mutant: Path) -> Path:
    """The simulation in ``folder``. The archive's own object of the file of ``mutant`` is not needed any more."""
    objects = sorted((BUILD / "CMakeFiles/simulation.dir").rglob("*.o"))
    assert objects, "the simulation is not built: make install"
    program = folder / "simulation"
    run(COMPILER, *objects, *mutant, BUILD / "libpyinfer_core.a", *libraries, "-lpthread", "-o", program)
    return program


def build(patch: Path, folder: Path, libraries: list[str]) -> Path:
    """The simulation with the bug of ``patch``, in ``folder``."""
    changed = re.findall(r"^\+\+\+ b/(\S+)", patch.read_text(), re.MULTILINE)
    assert len(changed) == 1 and changed[0].endswith(".cc"), f"{patch} has to change one .cc file"
    source = folder / changed[0]
    source.parent.mkdir(parents=True)
    source.write_text((ROOT / changed[0]).read_text())
    run("patch", "--silent", "--strip=1", "--fuzz=0", f"--input={patch}", cwd=folder)
    flags = ["-std=c++17", "-O1", f"-I{ROOT / 'csrc'}"]
    run(COMPILER, *flags, "-c", source, "-o", folder / "mutant.o")
    return link(folder, libraries, folder / "mutant.o")


def caught(program: Path, seeds: int = SEEDS) -> str | None:
    """What the simulation says of its first failure; None where there is none."""
    command = [program, str(seeds)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    if done.returncode == 0:
        return None
    failures = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
    return failures[-1] if failures else f"ended with {done.returncode}"


def main(words: list[str]) -> int:
    patches = [p for p in sorted(PATCHES.glob("*.patch")) if not words or any(word in p.stem for word in words)]
    assert patches, f"no patch in {PATCHES} has a name with {words}"
    libraries = shlex.split(run("pkg-config", "--libs", *LIBRARIES))
    with tempfile.TemporaryDirectory() as folder:
        said = caught(link(Path(folder), libraries), SOUND_SEEDS)
    if said is not None:
        print(f"the simulation fails without a planted bug: {said}")
        return 1
    survivors = []
    for patch in patches:
        begun = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            said = caught(build(patch, Path(folder), libraries))
        print(f"{patch.stem} ({time.monotonic() - begun:.0f} s): {said or 'NOT CAUGHT'}", flush=True)
        if said is None:
            survivors.append(patch.stem)
    print(f"{len(patches) - len(survivors)} of {len(patches)} mutants caught")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
