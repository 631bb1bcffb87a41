# SPDX-License-Identifier: Apache-2.0
"""The command ``pyinfer``: picks the subcommand and imports only what it needs.

It does NOT know any flag; those are declared in :mod:`pyinfer.config.options`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = ["main"]

_USAGE = """\
usage: pyinfer serve --model-repository DIR [flags]
       pyinfer serve MODEL_FILE... [flags]
       pyinfer serve --help
       pyinfer --version
       pyinfer help

A model server that speaks Triton's protocols.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (default: the process's own); the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    command = arguments.pop(0) if arguments else "help"
    if command == "serve":
        return _serve(arguments)
    if command in ("--version", "version"):
        from pyinfer import __version__

        print(f"pyinfer {__version__}")
        return 0
    if command in ("help", "--help", "-h"):
        print(_USAGE, end="")
        return 0
    print(f"pyinfer: unknown command '{command}'\n\n{_USAGE}", end="", file=sys.stderr)
    return 2


def _serve(arguments: Sequence[str]) -> int:
    from pyinfer.config.options import UsageError, help_text, parse

    try:
        options = parse(arguments)
    except UsageError as error:
        print(f"pyinfer serve: {error}", file=sys.stderr)
        return 2
    if options.help:
        print(help_text(), end="")
        return 0
    from pyinfer.server import serve

    return serve(options)
