# SPDX-License-Identifier: Apache-2.0
"""Writes the pages of ``docs/`` that are made from the program: ``python scripts/render_docs.py``. A test compares."""

from __future__ import annotations

from pathlib import Path

from pyinfer.config.check_options import check_options_markdown
from pyinfer.config.options import options_markdown

__all__ = ["PAGES", "command_line", "main"]

ROOT = Path(__file__).resolve().parent.parent


def command_line() -> str:
    """The page of all flags."""
    head = """# Command line

`pyinfer serve --model-repository DIR [flags]`, or `pyinfer serve MODEL_FILE... [flags]`. Names, defaults and value
syntax are tritonserver's. Flags are written `--name=value` or `--name value`.

"""
    check = """
## pyinfer config check

`pyinfer config check DIR... [flags]` reports everything that is wrong with model repositories; see
[configuration.md](configuration.md).

"""
    return head + options_markdown() + check + check_options_markdown()


PAGES = {Path("docs/command-line.md"): command_line}


def main() -> None:
    for page, render in PAGES.items():
        (ROOT / page).write_text(render())


if __name__ == "__main__":
    main()
