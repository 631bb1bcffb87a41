# SPDX-License-Identifier: Apache-2.0
"""Prints what an extra of the project needs, one requirement a line, without the project itself.

So the packages can be installed before the project is built, and once. Usage: ``requirements.py EXTRA...``.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    from pip._vendor import tomli as tomllib

__all__ = ["main", "requirements"]

OWN = re.compile(r"pyinfer\[(?P<extras>[^]]+)\]")


def requirements(project: dict[str, Any], extras: list[str]) -> list[str]:
    """The requirements of ``extras`` and of the project, sorted; extras of the project that name others are opened."""
    found: set[str] = set(project["dependencies"])
    seen: set[str] = set()
    todo = list(extras)
    while todo:
        extra = todo.pop()
        if extra in seen:
            continue
        seen.add(extra)
        for requirement in project["optional-dependencies"][extra]:
            own = OWN.fullmatch(requirement)
            if own:
                todo += own["extras"].split(",")
            else:
                found.add(requirement.replace(" ", ""))
    return sorted(found)


def main() -> None:
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
    print("\n".join(requirements(project, sys.argv[1:])))


if __name__ == "__main__":
    main()
