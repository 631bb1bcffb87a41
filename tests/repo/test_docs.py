# SPDX-License-Identifier: Apache-2.0
"""The pages say what the program does: rendered ones are up to date, links lead somewhere, the README has a start."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from repo import tree


def renderer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("render_docs", tree.ROOT / "scripts/render_docs.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", renderer().PAGES, ids=str)
def test_rendered_page_is_up_to_date(page: Path) -> None:
    assert tree.read(page) == renderer().PAGES[page](), "run: python scripts/render_docs.py"


@pytest.mark.parametrize("command", ["make run", "make test", "tritonclient", "curl "])
def test_readme_shows(command: str) -> None:
    assert command in tree.read(Path("README.md"))


@pytest.mark.parametrize("page", tree.files(".md"), ids=str)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", tree.read(page)):
        if "://" not in link:
            assert (tree.ROOT / page.parent / link).exists(), f"{page} links to {link}, which does not exist"


def test_decisions_are_numbered_without_gaps() -> None:
    pages = [path.name for path in tree.files(".md", under="docs/adr") if path.name != "README.md"]
    numbers = [int(name[:4]) for name in pages]
    assert numbers == list(range(1, len(pages) + 1))


@pytest.mark.parametrize("page", [p for p in tree.files(".md", under="docs/adr") if p.name != "README.md"], ids=str)
def test_decision_has_its_headings(page: Path) -> None:
    text = tree.read(page)
    assert re.match(rf"# {page.name[:4]}: \w", text)
    for heading in ("\nStatus: ", "\n## Context\n", "\n## Decision\n", "\n## Consequences\n"):
        assert heading in text, f"{page} lacks {heading.strip()}"
