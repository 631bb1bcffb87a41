# SPDX-License-Identifier: Apache-2.0
"""The options of ``pyinfer config check``, declared as those of ``pyinfer serve`` are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pyinfer.config.flags import UsageError, choice, flag, flags_of, help_lines, markdown_rows, read, text

__all__ = ["CheckCommand", "check_help_text", "check_options_markdown", "parse_check"]


@dataclass(frozen=True)
class CheckCommand:
    """What the operator asks ``pyinfer config check`` for."""

    #: the words of the command line that are no flags
    directories: tuple[str, ...] = ()

    help: bool = flag("Check", text, False, "Show this text and exit", switch=True)
    format: str = flag("Check", choice("text", "json"), "text", "How to print what was found")
    model_config_name: str = flag(
        "Check",
        text,
        "",
        "Check configs/NAME.pbtxt of a model where there is one; all are checked if not given",
        metavar="NAME",
    )
    disable_auto_complete_config: bool = flag(
        "Check", text, False, "Check configurations as the server takes them with this flag", switch=True
    )


def parse_check(argv: Sequence[str]) -> CheckCommand:
    """The options that ``argv`` (without the program and the subcommand) asks for. Raises UsageError."""
    parsed = read(argv, flags_of(CheckCommand))
    command = CheckCommand(directories=parsed.positional, **parsed.values)
    if not command.directories and not command.help:
        raise UsageError("nothing to check: give the directory of a model repository")
    return command


def check_help_text(program: str = "pyinfer config check") -> str:
    """The text of ``--help``."""
    usage = [
        f"usage: {program} DIR... [flags]",
        "",
        "Reports everything that is wrong with model repositories, without starting a server.",
        "Exit status: 0 if nothing is, 1 if anything is, 2 if the command line is wrong.",
    ]
    return "\n".join([*usage, *help_lines(flags_of(CheckCommand))]) + "\n"


def check_options_markdown() -> str:
    """The table of the flags for the documentation."""
    return "\n".join(markdown_rows(flags_of(CheckCommand))[3:]) + "\n"
