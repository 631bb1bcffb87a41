# SPDX-License-Identifier: Apache-2.0
"""The options of ``pyinfer serve``: each flag is declared once; parser, ``--help`` and docs are made from that.

Longer than 400 lines: the flags are one table.

Names, defaults and value syntax are those of tritonserver; every bind defaults to 127.0.0.1 instead. Pure: no file,
socket or environment is looked at. Imports nothing of pyinfer but what reads values, and no third-party package.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from pyinfer.config.cache import cache_setting, cache_settings
from pyinfer.config.flags import (
    UsageError,
    boolean,
    choice,
    flag,
    flags_of,
    help_lines,
    integer,
    markdown_rows,
    read,
    setting,
    text,
)
from pyinfer.config.foreign import IGNORED, REFUSED
from pyinfer.config.gpu_flags import compute_capability, gpu_load_limit
from pyinfer.config.metrics import metrics_setting
from pyinfer.config.rate_limit import rate_limit_mode, rate_limit_resource
from pyinfer.config.restrictions import CATEGORIES, parse_restrictions
from pyinfer.config.tracing import TraceOptions, read_trace_options

__all__ = ["Options", "UsageError", "check", "help_text", "options_markdown", "parse"]

_PORT = integer(0, 65535)
_COUNT = integer(0, 2**31 - 1)
_POSITIVE = integer(1, 2**31 - 1)
_FORWARDED = "Regular expression (RE2) of the headers that become request parameters: found in their names, in any case"


@dataclass(frozen=True)
class Options:
    """The options of one server. Immutable; :func:`parse` makes a checked one."""

    model_files: tuple[str, ...] = field(default=())
    ignored: tuple[str, ...] = field(default=())

    help: bool = flag("Server", boolean, False, "Show this text and exit", switch=True)
    id: str = flag("Server", text, "triton", "Name of the server in its metadata")
    exit_timeout_secs: int = flag(
        "Server", _COUNT, 30, "Seconds that accepted requests and connections get to finish after SIGINT or SIGTERM"
    )

    log_verbose: int = flag("Logging", _COUNT, 0, "Verbosity of debug messages; 0 is none")
    log_info: bool = flag("Logging", boolean, True, "Log messages of level INFO")
    log_warning: bool = flag("Logging", boolean, True, "Log messages of level WARNING")
    log_error: bool = flag("Logging", boolean, True, "Log messages of level ERROR")
    log_format: str = flag("Logging", choice("default", "ISO8601", "json"), "default", "Form of the lines of the log")
    log_file: str = flag(
        "Logging", text, "", "File that the log is written to, in place of the console", metavar="FILE"
    )

    model_repository: tuple[str, ...] = flag(
        "Models",
        text,
        (),
        "Directory of models, or the URL of one on an object store: s3://, gs://, as://",
        metavar="DIR",
        repeatable=True,
        alias="model-store",
    )
    repository_cache_directory: str = flag(
        "Models",
        text,
        "",
        "Where what is fetched from object stores is kept; $XDG_CACHE_HOME/pyinfer or ~/.cache/pyinfer if not given",
        metavar="DIR",
        own=True,
    )
    repository_cache_byte_size: int = flag(
        "Models",
        integer(),
        10 << 30,
        "Most bytes to keep of what is fetched from object stores; 0 keeps nothing",
        own=True,
    )
    exit_on_error: bool = flag("Models", boolean, True, "Exit if a model can not be loaded at start")
    disable_auto_complete_config: bool = flag(
        "Models", boolean, False, "Take configurations as written, without asking the model files", switch=True
    )
    strict_model_config: bool = flag("Models", boolean, False, "Deprecated: true is --disable-auto-complete-config")
    strict_readiness: bool = flag("Models", boolean, True, "The server is ready only while every loaded model is ready")
    model_control_mode: str = flag(
        "Models",
        choice("none", "explicit", "poll"),
        "none",
        "none loads every model at start; poll also looks for changes later; explicit loads what --load-model names "
        "and obeys the load and unload API",
    )
    repository_poll_secs: int = flag(
        "Models", _COUNT, 15, "Seconds between two looks at the repositories in mode poll; 0 looks only at start"
    )
    load_model: tuple[str, ...] = flag(
        "Models",
        text,
        (),
        "Model to load at start in mode explicit; * alone is every model",
        metavar="NAME",
        repeatable=True,
    )
    model_config_name: str = flag(
        "Models", text, "", "Use configs/NAME.pbtxt of each model that has it, in place of config.pbtxt", metavar="NAME"
    )
    model_namespacing: bool = flag(
        "Models", boolean, False, "Models of one name in several repositories are different models"
    )
    model_load_thread_count: int = flag("Models", _POSITIVE, 4, "Models that are loaded at the same time")
    model_load_retry_count: int = flag("Models", _COUNT, 0, "Times that a failed load of a version is tried again")
    model_load_gpu_limit: tuple[tuple[int, float], ...] = flag(
        "Models",
        gpu_load_limit,
        (),
        "A model with instances on the device is not loaded while more of its memory is in use",
        repeatable=True,
    )
    min_supported_compute_capability: tuple[int, int] = flag(
        "Models", compute_capability, (7, 5), "Instances use GPUs of this CUDA compute capability and newer ones"
    )

    allow_http: bool = flag("HTTP", boolean, True, "Serve HTTP")
    http_address: str = flag(
        "HTTP", text, "127.0.0.1", "Address to serve HTTP on; 0.0.0.0 is every one", metavar="ADDRESS"
    )
    http_port: int = flag("HTTP", _PORT, 8000, "Port to serve HTTP on; 0 lets the system choose")
    reuse_http_port: bool = flag("HTTP", boolean, False, "Share the HTTP port with other servers that also say so")
    http_max_input_size: int = flag(
        "HTTP", integer(1), 67108864, "Most bytes of a request body, also once decompressed"
    )
    http_header_forward_pattern: str = flag(
        "HTTP",
        text,
        "",
        _FORWARDED,
        metavar="REGEX",
    )
    http_restricted_api: tuple[str, ...] = flag(
        "HTTP",
        text,
        (),
        "APIs that are answered only to requests that have the header. Known are " + ", ".join(CATEGORIES),
        metavar="<api>,<api>,...:<header>=<value>",
        repeatable=True,
    )
    http_header_timeout_secs: int = flag(
        "HTTP", _POSITIVE, 10, "Seconds that a client has to send the head of a request", own=True
    )
    http_body_timeout_secs: int = flag("HTTP", _POSITIVE, 30, "Seconds that a request body may stand still", own=True)

    allow_grpc: bool = flag("gRPC", boolean, True, "Serve gRPC")
    grpc_address: str = flag(
        "gRPC", text, "127.0.0.1", "Address to serve gRPC on; 0.0.0.0 is every one", metavar="ADDRESS"
    )
    grpc_port: int = flag("gRPC", _PORT, 8001, "Port to serve gRPC on; 0 lets the system choose")
    reuse_grpc_port: bool = flag("gRPC", boolean, False, "Share the gRPC port with other servers that also say so")
    grpc_use_ssl: bool = flag("gRPC", boolean, False, "Serve gRPC with TLS")
    grpc_use_ssl_mutual: bool = flag("gRPC", boolean, False, "Serve gRPC with TLS and ask clients for a certificate")
    grpc_server_cert: str = flag("gRPC", text, "", "Certificate chain of the server, PEM", metavar="FILE")
    grpc_server_key: str = flag("gRPC", text, "", "Private key of the server, PEM", metavar="FILE")
    grpc_root_cert: str = flag(
        "gRPC", text, "", "Certificates that client certificates are checked with, PEM", metavar="FILE"
    )
    grpc_max_message_size: int = flag(
        "gRPC", integer(1, 2**31 - 1), 2**31 - 1, "Most bytes of a message, either way", own=True
    )
    grpc_message_timeout_secs: int = flag("gRPC", _POSITIVE, 30, "Seconds that a message may stand still", own=True)
    grpc_infer_response_compression_level: str = flag(
        "gRPC",
        choice("none", "low", "medium", "high"),
        "none",
        "Compress inference responses for clients that accept it; low chooses gzip, the others deflate, if they can",
    )
    grpc_header_forward_pattern: str = flag(
        "gRPC",
        text,
        "",
        _FORWARDED,
        metavar="REGEX",
    )
    grpc_restricted_protocol: tuple[str, ...] = flag(
        "gRPC",
        text,
        (),
        "RPCs that are answered only to calls with the header triton-grpc-protocol-<key>. Known are "
        + ", ".join(CATEGORIES),
        metavar="<protocol>,<protocol>,...:<key>=<value>",
        repeatable=True,
    )
    grpc_keepalive_time: int = flag(
        "gRPC", _COUNT, 7200000, "Milliseconds that a client is silent before it is pinged; 2147483647 is for ever"
    )
    grpc_keepalive_timeout: int = flag(
        "gRPC", _COUNT, 20000, "Milliseconds that a client has to answer a ping before its connection is closed"
    )
    grpc_keepalive_permit_without_calls: bool = flag(
        "gRPC", boolean, False, "Ping, and let clients ping, while there are no calls"
    )
    grpc_http2_max_pings_without_data: int = flag(
        "gRPC", _COUNT, 2, "Most pings to a client without sending it anything else; 0 is no limit"
    )
    grpc_http2_min_recv_ping_interval_without_data: int = flag(
        "gRPC", _COUNT, 300000, "Least milliseconds between pings of a client that is sent nothing else"
    )
    grpc_http2_max_ping_strikes: int = flag(
        "gRPC", _COUNT, 2, "Pings that may come too soon before the connection is closed; 0 is no limit"
    )
    grpc_max_connection_age: int = flag(
        "gRPC", _COUNT, 0, "Milliseconds after which a connection takes no new calls, give or take a tenth; 0 is never"
    )
    grpc_max_connection_age_grace: int = flag(
        "gRPC", _COUNT, 0, "Milliseconds that its calls have then to end; 0 is no limit"
    )

    max_connections: int = flag(
        "Connections", _POSITIVE, 10000, "Most connections at a time, over all services", own=True
    )
    idle_timeout_secs: int = flag(
        "Connections", _POSITIVE, 120, "Seconds after which an idle connection is closed", own=True
    )

    allow_metrics: bool = flag("Metrics", boolean, True, "Serve Prometheus metrics")
    allow_gpu_metrics: bool = flag("Metrics", boolean, True, "Measure the GPUs of the machine")
    allow_cpu_metrics: bool = flag("Metrics", boolean, True, "Measure the CPU and memory of the machine")
    metrics_address: str = flag(
        "Metrics", text, "", "Address to serve metrics on; that of --http-address if not given", metavar="ADDRESS"
    )
    metrics_port: int = flag("Metrics", _PORT, 8002, "Port to serve metrics on; 0 lets the system choose")
    metrics_interval_ms: int = flag(
        "Metrics", _COUNT, 2000, "Milliseconds for which a measurement of the CPU and the GPUs is used again"
    )
    metrics_config: tuple[tuple[str, str], ...] = flag(
        "Metrics",
        metrics_setting,
        (),
        "Which latencies have counters, histograms and summaries; see docs/metrics.md",
        repeatable=True,
    )

    allow_client_shm: bool = flag(
        "Shared memory", boolean, False, "Let clients register shared memory for inputs and outputs"
    )

    cache_config: tuple[tuple[str, str, str], ...] = flag(
        "Response cache",
        cache_setting,
        (),
        "Setting of the response cache: local,size=BYTES, or redis,host=HOST and redis,port=PORT (docs/scheduling.md)",
        repeatable=True,
    )
    response_cache_byte_size: int = flag("Response cache", integer(), 0, "Deprecated: use --cache-config local,size=N")

    rate_limit: str = flag(
        "Rate limiter",
        rate_limit_mode,
        "off",
        "off ignores what instance groups say in rate_limiter; execution_count has instances wait for the resources "
        "that they need, those first that have executed least, times their priority",
    )
    rate_limit_resource: tuple[tuple[str, int, int | None], ...] = flag(
        "Rate limiter",
        rate_limit_resource,
        (),
        "How much there is of a resource, on one device or on each, with nothing of those that are not named; as much "
        "of each as one instance needs if not given. The case of names does not matter",
        repeatable=True,
    )

    trace_config: tuple[str, ...] = flag(
        "Tracing",
        text,
        (),
        "Setting of tracing: rate, level, count, mode; triton,file, triton,log-frequency; opentelemetry,url and others",
        metavar="[<mode>,]<setting>=<value>",
        repeatable=True,
    )
    trace_file: str = flag("Tracing", text, "", "Deprecated: use --trace-config triton,file=FILE", metavar="FILE")
    trace_level: tuple[str, ...] = flag(
        "Tracing", text, (), "Deprecated: use --trace-config level=LEVEL", metavar="LEVEL", repeatable=True
    )
    trace_rate: int = flag("Tracing", integer(0, 2**32 - 1), 1000, "Deprecated: use --trace-config rate=N")
    trace_count: int = flag("Tracing", integer(-1, 2**31 - 1), -1, "Deprecated: use --trace-config count=N")
    trace_log_frequency: int = flag(
        "Tracing", integer(0, 2**32 - 1), 0, "Deprecated: use --trace-config triton,log-frequency=N"
    )

    backend_config: tuple[tuple[str, str, str], ...] = flag(
        "Backends", setting, (), "Setting of one backend, or of all where none is named", repeatable=True
    )

    def trace_options(self) -> TraceOptions:
        """What the flags say about tracing. Raises ValueError where they make no sense."""
        return read_trace_options(
            self.trace_config,
            level=self.trace_level,
            rate=self.trace_rate,
            count=self.trace_count,
            file=self.trace_file,
            log_frequency=self.trace_log_frequency,
        )

    def backend_options(self, backend: str) -> dict[str, str]:
        """The settings of ``backend``: its own over those given for all backends."""
        scopes = ("", backend)
        return {key: value for scope in scopes for of, key, value in self.backend_config if of == scope}


def parse(argv: Sequence[str]) -> Options:
    """The options that ``argv`` (without the program and the subcommand) asks for, checked. Raises UsageError.

    With ``help`` set nothing else is checked. ``ignored`` names the given flags that have no effect, to warn of once.
    """
    parsed = read(argv, flags_of(Options), IGNORED, REFUSED)
    options = Options(model_files=parsed.positional, ignored=parsed.ignored, **parsed.values)
    options = replace(
        options,
        metrics_address=options.metrics_address or options.http_address,
        grpc_use_ssl=options.grpc_use_ssl or options.grpc_use_ssl_mutual,
        disable_auto_complete_config=options.disable_auto_complete_config or options.strict_model_config,
    )
    if not options.help:
        check(options)
    return options


def check(options: Options) -> None:
    """Raise UsageError where options contradict each other."""
    if not options.model_repository and not options.model_files:
        raise UsageError("nothing to serve: give --model-repository=DIR or a model file")
    if options.load_model and options.model_control_mode != "explicit":
        raise UsageError("Use of '--load-model' requires setting '--model-control-mode=explicit' as well.")
    if "*" in options.load_model and len(set(options.load_model)) > 1:
        raise UsageError("Wildcard model name '*' must be the ONLY startup model if specified at all.")
    if any(sign.isspace() or sign == "/" for sign in options.model_config_name):
        raise UsageError("--model-config-name names a file in configs/ without .pbtxt: no blanks, no slashes")
    if options.grpc_use_ssl and not (options.grpc_server_cert and options.grpc_server_key):
        raise UsageError("--grpc-use-ssl needs --grpc-server-cert and --grpc-server-key")
    if options.grpc_use_ssl_mutual and not options.grpc_root_cert:
        raise UsageError("--grpc-use-ssl-mutual needs --grpc-root-cert")
    _check_restrictions("http-restricted-api", options.http_restricted_api, "api")
    _check_restrictions("grpc-restricted-protocol", options.grpc_restricted_protocol, "protocol")
    _check_ports(options)
    try:
        cache_settings(options.cache_config, options.response_cache_byte_size, None)
    except ValueError as error:
        raise UsageError(str(error)) from None
    try:
        options.trace_options()
    except ValueError as error:
        raise UsageError(f"option '--trace-config': {error}") from None


def _check_restrictions(name: str, values: Sequence[str], feature: str) -> None:
    try:
        parse_restrictions(values, feature)
    except ValueError as error:
        raise UsageError(f"option '--{name}': {error}") from None


def _check_ports(options: Options) -> None:
    services = [
        ("http", options.http_address, options.http_port, options.allow_http),
        ("grpc", options.grpc_address, options.grpc_port, options.allow_grpc),
        ("metrics", options.metrics_address or options.http_address, options.metrics_port, options.allow_metrics),
    ]
    taken = [(name, address, port) for name, address, port, allowed in services if allowed and port]
    for index, (name, address, port) in enumerate(taken):
        for other, other_address, other_port in taken[:index]:
            overlap = address == other_address or {"0.0.0.0", "::"} & {address, other_address}  # noqa: S104 - compared only
            if port == other_port and overlap:
                raise UsageError(f"--{other}-port and --{name}-port are both {port} on the same address; change one")


def help_text(program: str = "pyinfer serve") -> str:
    """The text of ``--help``."""
    usage = f"usage: {program} --model-repository DIR [flags]\n       {program} MODEL_FILE... [flags]"
    notes = [
        "",
        "Flags are written --name=value or --name value; BOOL is true, on, 1, false, off or 0.",
        "Names may be cut short as long as they mean one flag.",
        "",
        "Flags of tritonserver without effect, accepted with a warning:",
        *_reasons(IGNORED),
        "",
        "Flags of tritonserver that are refused, unless they ask for its default:",
        *_reasons({name: refusal.reason for name, refusal in REFUSED.items()}),
    ]
    return "\n".join([usage, *help_lines(flags_of(Options)), *notes]) + "\n"


def options_markdown() -> str:
    """The tables of all flags for the documentation, one for each group, and those of tritonserver's other flags."""
    return "\n".join(
        [
            *markdown_rows(flags_of(Options))[1:],
            "",
            "### Flags of tritonserver without effect",
            "",
            "They are accepted with one warning each.",
            "",
            "| flag | why |",
            "|---|---|",
            *(f"| `--{name}` | {reason} |" for name, reason in IGNORED.items()),
            "",
            "### Flags of tritonserver that are refused",
            "",
            "| flag | accepted value | why |",
            "|---|---|---|",
            *(
                f"| `--{name}` | {f'`{default}`' if default else ''} | {reason} |".replace("|  |", "| |")
                for name, (default, reason) in REFUSED.items()
            ),
            "",
        ]
    )


def _reasons(names: Mapping[str, str]) -> list[str]:
    return [line for name, reason in names.items() for line in (f"  --{name}", f"        {reason}")]
