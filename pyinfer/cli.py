# SPDX-License-Identifier: Apache-2.0
"""The command ``pyinfer``: picks the subcommand and imports only what it needs.

It does NOT know any flag; those are declared in :mod:`pyinfer.config.options` and beside it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = ["main"]

_USAGE = """\
usage: pyinfer serve --model-repository DIR [flags]
       pyinfer serve MODEL_FILE... [flags]
       pyinfer serve --help
       pyinfer config check DIR... [--format=text|json]
       pyinfer perf -m MODEL -u HOST:PORT [-i http|grpc] [flags]
       pyinfer perf compare SERVER SERVER... -m MODEL [flags]
       pyinfer perf limit MODEL.onnx [flags]
       pyinfer perf tune MODEL [flags]
       pyinfer perf --help
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
    if command == "config" and arguments[:1] == ["check"]:
        return _check(arguments[1:])
    if command == "perf":
        from pyinfer.perf.command import run

        return run(arguments)
    if command == "config":
        print("pyinfer config: the only command is 'pyinfer config check DIR...'", file=sys.stderr)
        return 2
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


def _check(arguments: Sequence[str]) -> int:
    from pyinfer.config.check_options import check_help_text, parse_check
    from pyinfer.config.flags import UsageError

    try:
        command = parse_check(arguments)
    except UsageError as error:
        print(f"pyinfer config check: {error}", file=sys.stderr)
        return 2
    if command.help:
        print(check_help_text(), end="")
        return 0
    from pathlib import Path

    from pyinfer.backends.find import backend_fault, may_auto_complete, may_use_devices
    from pyinfer.repository.check import check
    from pyinfer.repository.check_model import BackendKnowledge, CheckOptions
    from pyinfer.repository.cloud.location import is_cloud_url

    options = CheckOptions(
        BackendKnowledge(backend_fault, may_auto_complete, may_use_devices),
        model_config_name=command.model_config_name,
        auto_complete=not command.disable_auto_complete_config,
    )
    urls = [directory for directory in command.directories if is_cloud_url(directory)]
    if urls:
        print(f"pyinfer config check: '{urls[0]}' is no directory; copy the repository to one first", file=sys.stderr)
        return 2
    report = check([Path(directory) for directory in command.directories], options)
    print(report.json() if command.format == "json" else report.text(), end="")
    return 1 if report.findings else 0
