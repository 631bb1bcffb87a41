# SPDX-License-Identifier: Apache-2.0
"""Finds everything that is wrong with one model directory; see :mod:`pyinfer.repository.check`."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pyinfer.config.complete import fill_backend, version_files
from pyinfer.config.files import Folder, named_files, stays_within
from pyinfer.config.normalize import normalize
from pyinfer.config.pbtxt import to_json
from pyinfer.config.recover import Recovered, recover
from pyinfer.config.rules_io import Fault
from pyinfer.config.source import FieldPath, Source, parse_path, path_text
from pyinfer.config.validate import faults, unsupported
from pyinfer.errors import ConfigError
from pyinfer.repository.plan import choose_versions
from pyinfer.repository.scan import parse_version_directory

__all__ = ["BackendKnowledge", "CheckOptions", "CheckedModel", "Finding", "check_model"]

#: names that somebody may have meant as a version
_LIKE_A_VERSION = re.compile(r"[vV]?[-+]?\d+(\.\d+)*", re.ASCII)


@dataclass(frozen=True)
class BackendKnowledge:
    """What there is to know of backends without importing any; see :mod:`pyinfer.backends.find`."""

    #: why the backend of that name could not be used; "" where it could
    fault: Callable[[str], str]
    #: whether the backend of that name may complete the configuration of the model in that file
    completes: Callable[[str, Path | None], bool]
    #: whether instances of the backend of that name may be on a GPU
    may_use_devices: Callable[[str], bool]


@dataclass(frozen=True)
class CheckOptions:
    """How the server would be started, as far as it matters here."""

    backends: BackendKnowledge
    #: check ``configs/<this>.pbtxt`` where there is one; "" checks all that there are, and ``config.pbtxt``
    model_config_name: str = ""
    auto_complete: bool = True


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, and where."""

    #: "" where it is about a repository
    model: str
    #: the file or directory, as the repository's path was given
    file: str
    message: str
    #: from 1; None where the finding is about no place in a file
    line: int | None = None
    column: int | None = None
    #: path of the field in the configuration: ``input[0].dims``
    field: str | None = None

    def place(self) -> tuple[str, int, int, str]:
        """What findings are sorted by."""
        return self.file, self.line or 0, self.column or 0, self.message

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.file, self.line, self.column) if part is not None)
        return f"{place}: {f'{self.field}: ' if self.field else ''}{self.message}"


@dataclass
class CheckedModel:
    """What was found in one model directory."""

    name: str
    directory: Path
    findings: list[Finding] = field(default_factory=list)
    #: the normalized configuration that would be served; None where none can be made out
    config: Mapping[str, Any] | None = None
    #: top-level fields that a backend may still complete, or that could not be read
    unsure: Collection[str] = ()
    #: where it stands, and where its fields are
    file: Path = Path()
    source: Source = field(default_factory=Source)

    def finding(self, fault: Fault) -> Finding:
        """``fault`` of the configuration that would be served, with its place."""
        return _placed(self.name, self.file, self.source, fault.message, fault.path)


def check_model(directory: Path, options: CheckOptions) -> CheckedModel:
    """Everything that is wrong with the model in ``directory``, seen without the other models. Raises nothing."""
    model = CheckedModel(directory.name, directory)
    versions, findings = _versions(model)
    model.findings += findings
    others = [] if options.model_config_name else sorted(directory.glob("configs/*.pbtxt"))
    for other in others:
        model.findings += _Config(model, str(other.relative_to(directory)), options).findings(versions)
    chosen = f"configs/{options.model_config_name}.pbtxt"
    is_there = bool(options.model_config_name) and (directory / chosen).is_file()
    served = _Config(model, chosen if is_there else "config.pbtxt", options)
    model.findings += served.findings(versions)
    model.config, model.unsure, model.file, model.source = served.config, served.unsure, served.file, served.source
    return model


def _versions(model: CheckedModel) -> tuple[list[int], list[Finding]]:
    """The versions that a server would see, and what is wrong with their directories."""
    numbers: list[int] = []
    findings: list[Finding] = []
    try:
        entries = sorted(model.directory.iterdir())
    except OSError as error:
        return [], [Finding(model.name, str(model.directory), _unreadable(error))]
    for entry in entries:
        number = parse_version_directory(entry.name)
        if number is not None and entry.is_dir():
            numbers.append(number)
        elif number is not None:
            findings.append(Finding(model.name, str(entry), "has the name of a version, but is not a directory"))
        elif _LIKE_A_VERSION.fullmatch(entry.name) and entry.is_dir():
            text = "is not taken as a version: name it with a number below 2^63, without sign or leading zeros"
            findings.append(Finding(model.name, str(entry), text))
    if not numbers:
        findings.append(
            Finding(model.name, str(model.directory), "no version is available: there is no version directory")
        )
    return sorted(numbers), findings


class _Config:
    """One configuration of a model, on its way from text to what would be served."""

    def __init__(self, model: CheckedModel, inner: str, options: CheckOptions) -> None:
        """``inner`` is the file's path below the model's directory; it need not be there."""
        self._model = model
        self._inner = inner
        self.file = model.directory / inner
        self._options = options
        self._lost: tuple[FieldPath, ...] = ()
        self.config: dict[str, Any] | None = None
        self.unsure: set[str] = set()
        self.source = Source()

    def findings(self, versions: Sequence[int]) -> Iterator[Finding]:
        """Everything that is wrong; afterwards the other members say what the configuration is."""
        recovered, unreadable = self._read()
        yield from unreadable
        if recovered is None or recovered.config is None:
            return
        self.source, self._lost = recovered.source, recovered.lost
        self.unsure = {str(path[0]) for path in recovered.lost if path}
        filled = to_json(recovered.config)
        open_fields = {name for name in ("max_batch_size", "input", "output") if not filled[name]}
        try:
            filled = fill_backend(self._model.name, version_files(self._model.directory), filled)
        except ConfigError as error:
            if "backend" not in self.unsure:
                yield self._finding(error.reason, ("backend",))
            self.unsure.add("backend")
            filled["name"] = filled["name"] or self._model.name
        except OSError:
            return  # what is unreadable is told with the versions
        yield from self._backend(filled, versions, open_fields)
        gpus = self._devices(filled)
        self.config = normalize(filled, gpus=gpus or ())
        told = set()
        for fault in faults(self.config, directory_name=self._model.name, gpus=gpus):
            if self._is_certain(fault):
                told.add(fault.path)
                yield self._finding(fault.message, fault.path)
        for text in unsupported(self.config):
            path = parse_path(text.partition(":")[0])
            if path not in told:
                yield self._finding("is not supported by this version", path)
        yield from self._files(self.config, versions)

    def _read(self) -> tuple[Recovered | None, list[Finding]]:
        try:
            text = self.file.read_bytes()
        except FileNotFoundError:
            return recover(b"", None), []
        except OSError as error:
            return None, [Finding(self._model.name, str(self.file), _unreadable(error))]
        recovered = recover(text, f"{self._model.name}/{self._inner}")
        return recovered, [self._grammar(error) for error in recovered.errors]

    def _grammar(self, error: ConfigError) -> Finding:
        message = error.reason.removeprefix(f"field '{error.field}': ")
        return Finding(self._model.name, str(self.file), message, error.line, error.column, error.field)

    def _backend(self, filled: Mapping[str, Any], versions: Sequence[int], open_fields: set[str]) -> Iterator[Finding]:
        """What is wrong with the choice of the backend; notes which fields it may still complete."""
        name = filled.get("backend", "")
        if not name:
            return
        fault = self._options.backends.fault(name)
        if fault:
            yield self._finding(fault, ("backend",))
        filename = filled.get("default_model_filename", "")
        lowest = self._model.directory / str(min(versions, default=0)) / filename
        file = lowest if filename and stays_within(filename) and lowest.is_file() else None
        if self._options.auto_complete and self._options.backends.completes(name, file):
            self.unsure |= open_fields

    def _devices(self, filled: Mapping[str, Any]) -> list[int] | None:
        """Those that the configuration asks for: which ones the server will have is not to be known here."""
        groups = filled["instance_group"]
        if not self._options.backends.may_use_devices(filled.get("backend", "")):
            return None
        asked = {device for group in groups for device in group["gpus"]}
        return sorted(asked | {0}) if any(group["kind"] == "KIND_GPU" for group in groups) else sorted(asked)

    def _is_certain(self, fault: Fault) -> bool:
        """Whether ``fault`` rests on nothing that could not be read, or that a backend may still change."""
        if fault.needs in self.unsure:
            return False
        needs = (*fault.path[:2], fault.needs) if fault.needs else fault.path
        related = [
            path[: len(end)] == end or end[: len(path)] == path for path in self._lost for end in (fault.path, needs)
        ]
        return not any(related)

    def _files(self, config: Mapping[str, Any], versions: Sequence[int]) -> Iterator[Finding]:
        """Versions and files that the configuration names and the disk lacks."""
        policy = config.get("version_policy", {})
        path: FieldPath = ("version_policy", "specific", "versions")
        for wanted in policy.get("specific", {}).get("versions", ()):
            if wanted not in versions:
                yield self._finding(
                    f"version {wanted} is specified for model '{self._model.name}', but the version directory is not "
                    "present",
                    path,
                )
        served = choose_versions(policy, versions)
        if versions and not served:
            yield self._finding(
                f"at least one version must be available under the version policy of model '{self._model.name}'",
                ("version_policy",),
            )
        for file in named_files(config):
            if not stays_within(file.name):
                continue  # which is a fault of its own
            in_versions = [(f"{version}", f"version {version}") for version in served]
            in_model = [(file.folder.value, file.folder.value or "the model directory")]
            may_be_directory = file.field == "default_model_filename"
            for folder, shown in in_versions if file.folder is Folder.VERSION else in_model:
                fault = _unusable(self._model.directory / folder / file.name, may_be_directory)
                if fault:
                    yield self._finding(f"'{file.name}' {fault} in {shown}", file.path)

    def _finding(self, message: str, path: FieldPath) -> Finding:
        return _placed(self._model.name, self.file, self.source, message, path)


def _placed(model: str, file: Path, source: Source, message: str, path: FieldPath) -> Finding:
    line, column = source.locate(path)
    shown = file if file.exists() else file.parent
    return Finding(model, str(shown), message, line, column, path_text(path) or None)


def _unusable(file: Path, may_be_directory: bool) -> str:
    """Why ``file`` can not be used; "" where it can."""
    try:
        if file.is_dir():
            return "" if may_be_directory else "is a directory"
        with file.open("rb"):
            return ""
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return _unreadable(error)


def _unreadable(error: OSError) -> str:
    return f"can not be read: {error.strerror or type(error).__name__}"
