# SPDX-License-Identifier: Apache-2.0
"""The flags of ``pyinfer perf``: perf_analyzer's names and meanings, and a few of our own. Pure but for what is read.

What perf_analyzer has and this has not is refused by name, never ignored. Longer than 400 lines: all flags are declared
here, each once, with its default and its meaning.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from pyinfer.config.flags import UsageError
from pyinfer.perf.foreign import IGNORED, IGNORED_WITH_VALUE, REFUSED, SWITCHES
from pyinfer.perf.tls import TlsFlags, TlsSettings

__all__ = ["LOADS", "PerfOptions", "Range", "help_text", "parse"]

#: of requests, connections and the like at a time
_MOST = 65535


@dataclass(frozen=True)
class Range:
    """``start:end:step``. ``end`` 0: until the latency threshold is exceeded."""

    start: float
    end: float
    step: float

    @property
    def is_single(self) -> bool:
        return self.start == self.end


@dataclass(frozen=True)
class PerfOptions:
    """A checked command line. Durations are in the units of the flags: milliseconds."""

    model: str = ""
    version: str = ""
    protocol: str = "http"
    url: str = ""
    tls: TlsFlags = field(default_factory=TlsFlags)
    streaming: bool = False
    service_kind: str = "triton"
    endpoint: str = "v1/chat/completions"
    grpc_compression: str = "none"
    shared_memory: str = "none"
    output_shared_memory_size: int = 102400
    batch_size: int = 1
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    input_data: tuple[str, ...] = ("random",)
    string_data: str | None = None
    string_length: int = 128
    input_format: str = "binary"
    output_format: str = "binary"
    parameters: tuple[tuple[str, Any], ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    concurrency: Range | None = Range(1, 1, 1)
    request_rate: Range | None = None
    #: a concurrency that grows while it is measured
    periodic: Range | None = None
    request_period: int = 10
    #: sessions of several turns at a time; 0: there are none
    session_concurrency: int = 0
    distribution: str = "constant"
    burst: int = 1
    fixed_schedule: bool = False
    sequences: int = 4
    sequence_length: int = 0
    sequence_variation: float = 20.0
    sequence_ids: tuple[int, int] = (1, 0)
    serial_sequences: bool = False
    intervals_file: str = ""
    binary_search: bool = False
    latency_threshold_ms: float = 0.0
    #: search for the highest request rate whose latency, by ``percentile``, is within ``latency_threshold_ms``
    highest_rate: bool = False
    interval_ms: int = 5000
    count_windows: bool = False
    window_requests: int = 50
    stability_percent: float = 10.0
    percentile: int = -1
    max_trials: int = 10
    request_count: int = 0
    warmup_request_count: int = 0
    csv_file: str = ""
    verbose_csv: bool = False
    export_file: str = ""
    report_file: str = ""
    limit_file: str = ""
    #: out of that file, once it is read; 0: no shares are shown
    limit_rows_per_s: float = 0.0
    connections: int = 0
    threads: int = 1
    server_pid: int = 0
    collect_metrics: bool = False
    metrics_url: str = ""
    metrics_interval_ms: int = 1000
    seed: int = 0
    #: (name, version or ""): models that the model calls
    composing: tuple[tuple[str, str], ...] = ()
    #: settings of the model's tracing, by their names in the trace extension; empty: it stays as it is
    trace: dict[str, list[str]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


#: flag -> the option: the ways to say which load it is
LOADS = {
    "--concurrency-range": "concurrency",
    "--periodic-concurrency-range": "periodic",
    "--session-concurrency": "session_concurrency",
    "--request-rate-range": "request_rate",
    "--request-intervals": "intervals_file",
    "--highest-rate": "highest_rate",
    "--fixed-schedule": "fixed_schedule",
}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see --help")


def _number(low: float, high: float = 2**63 - 1, *, whole: bool = True) -> Callable[[str], Any]:
    def parse(text: str) -> float:
        try:
            value = int(text) if whole else float(text)
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            kind = "an integer" if whole else "a number"
            upper = "on" if high == 2**63 - 1 else f"to {high}"
            raise argparse.ArgumentTypeError(f"'{text}' is not {kind} from {low:g} {upper}")
        return value

    return parse


def _range(text: str) -> Range:
    try:
        parts = [float(part) for part in text.split(":")]
    except ValueError:
        parts = []
    if not 1 <= len(parts) <= 3 or not parts[0] > 0 or not all(0 <= part <= 1e9 for part in parts):
        raise argparse.ArgumentTypeError(f"'{text}' is not start:end:step, in numbers with a start above 0")
    end = parts[1] if len(parts) > 1 else parts[0]
    step = parts[2] if len(parts) > 2 else 1.0
    if step <= 0 or 0 < end < parts[0]:
        raise argparse.ArgumentTypeError(f"'{text}': the step must be above 0 and the end not below the start")
    return Range(parts[0], end, step)


def _concurrency(text: str) -> Range:
    parsed = _range(text)
    if any(part != int(part) for part in (parsed.start, parsed.end, parsed.step)):
        raise argparse.ArgumentTypeError(f"'{text}': a concurrency is a whole number")
    if max(parsed.start, parsed.end) > _MOST:
        raise argparse.ArgumentTypeError(f"'{text}': the concurrency is above {_MOST}")
    return parsed


def _periodic(text: str) -> Range:
    parsed = _concurrency(text)
    if not parsed.end or (parsed.end - parsed.start) % parsed.step:
        raise argparse.ArgumentTypeError(f"'{text}': the step must divide what is between start and end")
    return parsed


def _shape(text: str) -> tuple[str, tuple[int, ...]]:
    name, colon, dims = text.rpartition(":")
    try:
        shape = tuple(int(dim) for dim in dims.split(","))
    except ValueError:
        shape = ()
    if not colon or not name or not shape or min(shape) < 0:
        raise argparse.ArgumentTypeError(f"'{text}' is not NAME:DIM,DIM,...")
    return name, shape


def _unsigned(text: str) -> int:
    if not text.isdigit():
        raise ValueError
    return int(text)


def _limit(text: str) -> tuple[int, float]:
    percentile, colon, most = text.rpartition(":")
    try:
        number = int(percentile.removeprefix("p")) if colon else -1
        limit = float(most)
    except ValueError:
        number, limit = 0, 0.0
    if not (number == -1 or (1 <= number <= 99 and percentile.startswith("p"))) or not 0 < limit < 1e9:
        raise argparse.ArgumentTypeError(f"'{text}' is not pN:MS, such as p99:5, with N from 1 to 99, or MS")
    return number, limit


def _parameter(text: str) -> tuple[str, Any]:
    parts = text.split(":")
    kinds: dict[str, Callable[[str], Any]] = {
        "int": int,
        "uint": _unsigned,
        "string": str,
        "bool": lambda v: {"true": True, "false": False}[v],
    }
    if len(parts) < 3 or not parts[0] or parts[-1] not in kinds:
        raise argparse.ArgumentTypeError(f"'{text}' is not NAME:VALUE:TYPE with a type of int, uint, bool or string")
    value = ":".join(parts[1:-1])
    try:
        return parts[0], kinds[parts[-1]](value)
    except (ValueError, KeyError):
        raise argparse.ArgumentTypeError(f"'{text}': the value is no {parts[-1]}") from None


def _ids(text: str) -> tuple[int, int]:
    first, colon, end = text.partition(":")
    try:
        parsed = (int(first), int(end) if colon else 0)
    except ValueError:
        parsed = (0, 0)
    if not 0 < parsed[0] < 2**63 or (colon and not parsed[0] < parsed[1] < 2**63):
        raise argparse.ArgumentTypeError(f"'{text}' is not START or START:END, from 1 on, with END above START")
    return parsed


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    plain = text.isprintable() and text.isascii()
    if not colon or not name.strip() or not plain or " " in name.strip():
        raise argparse.ArgumentTypeError(f"'{text}' is not NAME:VALUE")
    return name.strip(), value.strip()


def _one_of(known: Sequence[str], otherwise: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in known:
            raise argparse.ArgumentTypeError(f"'{text}' can not be used: {otherwise}")
        return text

    return parse


def _add_load(parser: _Parser) -> None:
    load = parser.add_argument_group("Load")
    load.add_argument(
        "--concurrency-range",
        type=_concurrency,
        metavar="START:END:STEP",
        dest="concurrency",
        help="requests in flight (default 1); END 0: until --latency-threshold is exceeded",
    )
    load.add_argument(
        "--periodic-concurrency-range",
        type=_periodic,
        metavar="START:END:STEP",
        dest="periodic",
        help="START requests at first, STEP more each --request-period, END in all; each is sent once",
    )
    load.add_argument(
        "--request-period",
        type=_number(1, 2**31 - 1),
        default=10,
        metavar="N",
        help="responses to each of the latest requests before the next are sent (default 10)",
    )
    load.add_argument(
        "--session-concurrency",
        type=_number(1, _MOST),
        default=0,
        metavar="N",
        help="with openai: N sessions of several turns at a time; all sessions of --input-data, once",
    )
    _add_times(load)
    _add_search(load)
    load.add_argument(
        "--connections",
        type=_number(0, _MOST),
        default=0,
        metavar="N",
        help="own: connections; by default one for 6 requests at a time over gRPC, for 1 over HTTP",
    )
    load.add_argument(
        "--threads", type=_number(1, _MOST), default=1, metavar="N", help="own: threads that carry the load"
    )
    load.add_argument("--seed", type=_number(0), default=0, metavar="N", help="own: of random data and times")


def _add_times(group: Any) -> None:
    group.add_argument(
        "--request-rate-range",
        type=_range,
        metavar="START:END:STEP",
        dest="request_rate",
        help="requests a second, sent whether or not answers come",
    )
    group.add_argument(
        "--request-distribution", choices=["constant", "poisson"], default="constant", dest="distribution"
    )
    group.add_argument(
        "--burst",
        type=_number(1, _MOST),
        default=1,
        metavar="N",
        help="own: so many requests at once, at the same request rate",
    )
    group.add_argument(
        "--request-intervals",
        metavar="FILE",
        default="",
        dest="intervals_file",
        help="microseconds between requests, one a line, over and over",
    )
    group.add_argument(
        "--fixed-schedule",
        action="store_true",
        help="each entry of the JSON data once, at its 'timestamp' (ms from the start)",
    )


def _add_search(group: Any) -> None:
    group.add_argument(
        "--highest-rate",
        type=_limit,
        metavar="pN:MS",
        help="own: find the highest request rate whose p99 (or pN; without it the average) is MS ms at most",
    )
    group.add_argument("--binary-search", action="store_true", help="search the range for the highest load below -l")
    group.add_argument(
        "-l",
        "--latency-threshold",
        type=_number(0, whole=False),
        default=0.0,
        metavar="MS",
        dest="latency_threshold_ms",
        help="limit of the latency that decides stability; 0: none",
    )


def _add_sequences(parser: _Parser) -> None:
    group = parser.add_argument_group("Sequences, for models that have them")
    group.add_argument(
        "--num-of-sequences",
        type=_number(1, _MOST),
        default=4,
        metavar="N",
        dest="sequences",
        help="at a time, with a request rate (default 4); a concurrency is so many sequences",
    )
    group.add_argument(
        "--sequence-length",
        type=_number(0, 2**31 - 1),
        default=0,
        metavar="N",
        help="requests of a sequence (default: as many as its data has, otherwise 20)",
    )
    group.add_argument(
        "--sequence-length-variation",
        type=_number(0, whole=False),
        default=20.0,
        metavar="PERCENT",
        dest="sequence_variation",
        help="how much longer or shorter it may be (default 20); not where its data gives the length",
    )
    group.add_argument(
        "--sequence-id-range",
        type=_ids,
        default=(1, 0),
        metavar="START[:END]",
        dest="sequence_ids",
        help="ids, END excluded (default: from 1 on, without end)",
    )
    group.add_argument("--start-sequence-id", type=_ids, dest="sequence_ids", metavar="START", help=argparse.SUPPRESS)
    group.add_argument(
        "--serial-sequences", action="store_true", help="at most one request of a sequence in flight, at a rate as well"
    )


def _add_measurement(parser: _Parser) -> None:
    measure = parser.add_argument_group("Measurement")
    measure.add_argument(
        "-p",
        "--measurement-interval",
        type=_number(1),
        default=5000,
        metavar="MS",
        dest="interval_ms",
        help="length of a window (default 5000)",
    )
    measure.add_argument("--measurement-mode", choices=["time_windows", "count_windows"], default="time_windows")
    measure.add_argument(
        "--measurement-request-count",
        type=_number(1),
        default=50,
        metavar="N",
        dest="window_requests",
        help="requests of a window with count_windows (default 50)",
    )
    measure.add_argument(
        "-s",
        "--stability-percentage",
        type=_number(0, whole=False),
        default=10.0,
        metavar="PERCENT",
        dest="stability_percent",
        help="how far three windows may differ (default 10)",
    )
    measure.add_argument(
        "--percentile",
        type=_number(-1),
        default=-1,
        metavar="N",
        help="of the latency that decides stability (default: the average)",
    )
    measure.add_argument(
        "-r", "--max-trials", type=_number(1), default=10, metavar="N", help="most windows (default 10)"
    )
    measure.add_argument(
        "--request-count", type=_number(0), default=0, metavar="N", help="so many requests, no windows"
    )
    measure.add_argument("--warmup-request-count", type=_number(0), default=0, metavar="N", help="requests before it")
    measure.add_argument(
        "--server-pid",
        type=_number(0),
        default=0,
        metavar="PID",
        help="own: a local server's process; shows its CPU time and memory",
    )


def _add_metrics(parser: _Parser) -> None:
    group = parser.add_argument_group("Statistics and metrics of the server")
    group.add_argument(
        "--bls-composing-models",
        type=_models,
        default=(),
        metavar="MODEL[:VERSION],...",
        dest="composing",
        help="models that it calls, whose statistics are shown as those of an ensemble's steps are",
    )
    group.add_argument("--collect-metrics", action="store_true", help="read them during the load")
    group.add_argument(
        "--metrics-url", default="", metavar="HOST:PORT/PATH", help="their page (default localhost:8002/metrics)"
    )
    group.add_argument(
        "--metrics-interval",
        type=_number(1),
        default=1000,
        metavar="MS",
        dest="metrics_interval_ms",
        help="between two readings (default 1000)",
    )


def _add_trace(parser: _Parser) -> None:
    group = parser.add_argument_group("Tracing of the model, set on the server before the load; it stays so")
    levels = ("OFF", "TIMESTAMPS", "TENSORS")
    group.add_argument(
        "--trace-level", action="append", choices=levels, metavar="|".join(levels), help="may be given several times"
    )
    number = _number(0)
    group.add_argument("--trace-rate", type=number, metavar="N", help="each N-th request is traced")
    group.add_argument("--trace-count", type=_number(-1), metavar="N", help="so many at most; -1: without end")
    group.add_argument("--log-frequency", type=number, metavar="N", help="a new file after N traces; 0: one file")
    group.add_argument("--trace-file", metavar="FILE", help="where the server lets clients say it; Triton does not")


def _take_trace(given: dict[str, Any]) -> dict[str, list[str]]:
    """What was given, by the names of the trace extension."""
    taken = {
        name: given.pop(name) for name in ("trace_level", "trace_rate", "trace_count", "log_frequency", "trace_file")
    }
    lists = {name: value if isinstance(value, list) else [value] for name, value in taken.items() if value is not None}
    return {name: [str(one) for one in values] for name, values in lists.items()}


def _add_service(parser: _Parser) -> None:
    request = parser.add_argument_group("Service")
    request.add_argument(
        "--streaming",
        action="store_true",
        help="answers are streams of responses: ModelStreamInfer, over HTTP generate_stream",
    )
    request.add_argument(
        "--service-kind",
        type=_one_of(
            ("triton", "openai"), "servers of the KServe v2 protocol (triton) and of OpenAI's API are measured"
        ),
        default="triton",
        metavar="triton|openai",
        help="openai: payloads of --input-data are sent to --endpoint",
    )
    request.add_argument(
        "--endpoint", default="v1/chat/completions", metavar="PATH", help="with openai (default v1/chat/completions)"
    )
    request.add_argument(
        "--grpc-compression-algorithm",
        choices=["none", "gzip", "deflate"],
        default="none",
        dest="grpc_compression",
        help="of requests over gRPC",
    )
    request.add_argument(
        "--shared-memory",
        choices=["none", "system", "cuda"],
        default="none",
        help="where tensors are, on a server of this machine",
    )
    request.add_argument(
        "--output-shared-memory-size",
        type=_number(1),
        default=102400,
        metavar="BYTES",
        help="of each output of variable size, for each entry of a batch (default 102400)",
    )


def _models(text: str) -> tuple[tuple[str, str], ...]:
    found = []
    for one in text.split(","):
        name, colon, version = one.partition(":")
        if not name or (colon and not version.isdigit()):
            raise argparse.ArgumentTypeError(f"'{text}' is not MODEL[:VERSION],...")
        found.append((name, version))
    return tuple(found)


def _add_request(parser: _Parser) -> None:
    request = parser.add_argument_group("Request")
    request.add_argument("-m", metavar="MODEL", dest="model", default="", help="name of the model (required)")
    request.add_argument("-x", metavar="VERSION", dest="version", default="", help="its version; by default the latest")
    request.add_argument(
        "-i",
        metavar="http|grpc",
        dest="protocol",
        type=str.lower,
        choices=["http", "grpc"],
        default="http",
        help="protocol (default http)",
    )
    request.add_argument(
        "-u",
        metavar="HOST:PORT",
        dest="url",
        default="",
        help="server (default localhost:8000, with grpc localhost:8001)",
    )
    request.add_argument(
        "-b", type=_number(1), default=1, metavar="N", dest="batch_size", help="batch size (default 1)"
    )
    request.add_argument(
        "--shape",
        type=_shape,
        action="append",
        default=[],
        metavar="NAME:DIMS",
        dest="shapes",
        help="shape of an input with variable dimensions, without the batch",
    )
    request.add_argument("--input-data", action="append", default=[], metavar="random|zero|FILE.json|DIR")
    request.add_argument("--string-data", default=None, metavar="TEXT", help="for all elements of type BYTES")
    request.add_argument("--string-length", type=_number(0), default=128, metavar="N", help="of random strings (128)")
    request.add_argument("--input-tensor-format", choices=["binary", "json"], default="binary", dest="input_format")
    request.add_argument("--output-tensor-format", choices=["binary", "json"], default="binary", dest="output_format")
    request.add_argument(
        "--request-parameter",
        type=_parameter,
        action="append",
        default=[],
        metavar="NAME:VALUE:TYPE",
        dest="parameters",
        help="TYPE is int, uint, bool or string",
    )
    request.add_argument(
        "-H",
        type=_header,
        action="append",
        default=[],
        metavar="NAME:VALUE",
        dest="headers",
        help="header of each request (metadata with grpc)",
    )


def _switch(text: str) -> bool:
    try:
        return {"true": True, "1": True, "false": False, "0": False}[text.lower()]
    except KeyError:
        raise argparse.ArgumentTypeError(f"'{text}' is not true or false") from None


def _add_tls(parser: _Parser) -> None:
    group = parser.add_argument_group("TLS, over gRPC with --ssl-grpc-use-ssl, over HTTP with -u https://HOST:PORT")

    def add(flag: str, metavar: str, meaning: str, **more: Any) -> None:
        group.add_argument(flag, metavar=metavar, help=meaning, **{"default": "", **more})

    add("--ssl-grpc-use-ssl", "true|false", "(default false)", type=_switch, nargs="?", const=True, default=False)
    add("--ssl-grpc-root-certifications-file", "FILE", "PEM; by default those that the system trusts")
    add("--ssl-grpc-private-key-file", "FILE", "PEM, the client's")
    add("--ssl-grpc-certificate-chain-file", "FILE", "PEM, the client's")
    add("--ssl-https-verify-peer", "0|1", "is the certificate to be trusted (default 1)", type=_number(0, 1), default=1)
    add("--ssl-https-verify-host", "0|1|2", "is it to be the host's; 0: no (default 2)", type=_number(0, 2), default=2)
    add("--ssl-https-ca-certificates-file", "FILE", "PEM; by default those that the system trusts")
    types: dict[str, Any] = {"type": str.upper, "choices": ("PEM", "DER"), "default": "PEM"}
    add("--ssl-https-client-certificate-file", "FILE", "the client's")
    add("--ssl-https-client-certificate-type", "PEM|DER", "(default PEM)", **types)
    add("--ssl-https-private-key-file", "FILE", "the client's")
    add("--ssl-https-private-key-type", "PEM|DER", "(default PEM)", **types)


def _take_tls(given: dict[str, Any]) -> TlsFlags:
    return TlsFlags(
        given.pop("ssl_grpc_use_ssl"),
        TlsSettings(
            given.pop("ssl_grpc_root_certifications_file"),
            given.pop("ssl_grpc_certificate_chain_file"),
            given.pop("ssl_grpc_private_key_file"),
        ),
        TlsSettings(
            given.pop("ssl_https_ca_certificates_file"),
            given.pop("ssl_https_client_certificate_file"),
            given.pop("ssl_https_private_key_file"),
            given.pop("ssl_https_client_certificate_type"),
            given.pop("ssl_https_private_key_type"),
            bool(given.pop("ssl_https_verify_peer")),
            bool(given.pop("ssl_https_verify_host")),
        ),
    )


def _parser() -> _Parser:
    parser = _Parser(prog="pyinfer perf", add_help=False, description="Measure a server of the KServe v2 protocol.")
    parser.add_argument("-h", "-?", "--help", action="store_true", help="show this text and exit")
    parser.add_argument("--version", action="store_true", dest="shows_version", help="show the version and exit")
    _add_request(parser)
    _add_service(parser)
    _add_tls(parser)
    _add_load(parser)
    _add_sequences(parser)
    _add_measurement(parser)
    _add_metrics(parser)
    _add_trace(parser)
    report = parser.add_argument_group("Report")
    report.add_argument("-f", metavar="FILE", dest="csv_file", default="", help="write perf_analyzer's CSV")
    report.add_argument("--verbose-csv", action="store_true", help="more columns in it")
    report.add_argument(
        "--profile-export-file",
        metavar="FILE",
        dest="export_file",
        default="",
        help="write each request's times as JSON",
    )
    report.add_argument(
        "--report", metavar="FILE.html", dest="report_file", default="", help="own: write a page with charts"
    )
    report.add_argument(
        "--limit",
        metavar="FILE",
        dest="limit_file",
        default="",
        help="own: show results as shares of what 'pyinfer perf limit --json FILE' has measured",
    )
    for name in IGNORED:
        takes: dict[str, Any] = {} if name in IGNORED_WITH_VALUE else {"nargs": 0, "action": _Seen}
        parser.add_argument(name, dest=f"ignored {name}", default=None, help=argparse.SUPPRESS, **takes)
    for name in REFUSED:
        takes = {"nargs": 0, "action": _Seen} if name in SWITCHES else {}
        parser.add_argument(name, dest=f"refused {name}", default=None, help=argparse.SUPPRESS, **takes)
    return parser


class _Seen(argparse.Action):
    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: Any = None) -> None:
        setattr(namespace, self.dest, "")


def help_text() -> str:
    """The flags, for a terminal."""
    return _parser().format_help()


def parse(argv: Sequence[str]) -> PerfOptions | None:
    """The options that ``argv`` asks for; None where it asks for help. Raises UsageError."""
    given = vars(_parser().parse_args(list(argv)))
    if any([given.pop("help"), given.pop("shows_version")]):
        return None
    notes = []
    for key in [key for key in given if " " in key]:
        kind, name = key.split(" ")
        value = given.pop(key)
        if value is None:
            continue
        if kind == "ignored":
            notes.append(f"{name} has no effect: {IGNORED[name]}")
        elif value not in REFUSED[name][0]:
            raise UsageError(f"option '{name}' of perf_analyzer can not be used: {REFUSED[name][1]}")
    given["tls"] = _take_tls(given)
    given["trace"] = _take_trace(given)
    given["count_windows"] = given.pop("measurement_mode") == "count_windows"
    given["shapes"] = dict(given["shapes"])
    given["input_data"] = tuple(given["input_data"]) or ("random",)
    for name in ("parameters", "headers"):
        given[name] = tuple(given[name])
    loads = [name for name in LOADS.values() if given[name]]
    if len(loads) > 1:
        raise UsageError(f"give one of {', '.join(LOADS)}")
    if not loads:
        given["concurrency"] = Range(1, 1, 1)
    _take_highest_rate(given)
    options = PerfOptions(notes=tuple(notes), **given)
    _check(options)
    return options


def _take_highest_rate(given: dict[str, Any]) -> None:
    limit = given.pop("highest_rate")
    given["highest_rate"] = limit is not None
    if limit is None:
        return
    if given["latency_threshold_ms"] or given["percentile"] != -1 or given["binary_search"]:
        raise UsageError("--highest-rate has its limit itself: there is no -l, --percentile and --binary-search")
    given["percentile"], given["latency_threshold_ms"] = limit


def _check(options: PerfOptions) -> None:
    levels = options.concurrency or options.request_rate
    if not options.model:
        raise UsageError("no model: give its name with -m")
    if options.percentile > 99 or options.percentile == 0:
        raise UsageError("--percentile must be from 1 to 99, or -1 for the average")
    if levels and levels.end == 0 and not options.latency_threshold_ms:
        raise UsageError("a range without an end needs --latency-threshold")
    if options.binary_search and (
        levels is None or levels.is_single or not levels.end or not options.latency_threshold_ms
    ):
        raise UsageError("--binary-search needs a range with start and end, and --latency-threshold")
    if options.protocol == "grpc" and "json" in (options.input_format, options.output_format):
        raise UsageError("tensors as JSON are for -i http")
    if options.burst > 1 and options.request_rate is None and not options.highest_rate:
        raise UsageError("--burst is for --request-rate-range and --highest-rate")
    if options.sequence_variation > 100:
        raise UsageError("--sequence-length-variation must be from 0 to 100")
    if options.fixed_schedule and not options.input_data[0].endswith(".json"):
        raise UsageError("--fixed-schedule needs --input-data FILE.json, with a 'timestamp' in each entry")
    if options.periodic and options.threads != 1:
        raise UsageError("--periodic-concurrency-range is carried by one of --threads")
    for flag, is_once in (
        ("--fixed-schedule", options.fixed_schedule),
        ("--periodic-concurrency-range", options.periodic),
        ("--session-concurrency", options.session_concurrency),
    ):
        for name in ("request_count", "warmup_request_count"):
            if is_once and getattr(options, name):
                raise UsageError(f"{flag} says itself what is sent: there is no --{name.replace('_', '-')}")
    if options.grpc_compression != "none" and (options.protocol != "grpc" or options.streaming):
        raise UsageError("--grpc-compression-algorithm is for -i grpc, without --streaming")
    if options.metrics_url and not options.collect_metrics:
        raise UsageError("--metrics-url needs --collect-metrics")
    if options.service_kind == "openai":
        _check_openai(options)
    elif options.session_concurrency:
        raise UsageError("--session-concurrency is for --service-kind openai")
    if options.connections and options.connections < options.threads:
        raise UsageError("--connections: each thread needs one")
    if len(options.input_data) > 1 and not all(source.endswith(".json") for source in options.input_data):
        raise UsageError("--input-data may be repeated for JSON files only")


def _check_openai(options: PerfOptions) -> None:
    if options.protocol != "http":
        raise UsageError("--service-kind openai is asked over HTTP: -i http")
    if options.trace:
        raise UsageError("--service-kind openai: servers of this API have no trace extension")
    if options.shared_memory != "none" or options.batch_size != 1:
        raise UsageError("--service-kind openai sends payloads: there are no batches and no shared memory")
    if not options.input_data[0].endswith(".json"):
        raise UsageError("--service-kind openai needs --input-data FILE.json, with a 'payload' in each entry")
