# SPDX-License-Identifier: Apache-2.0
"""The command line: names, defaults, syntax and errors."""

import subprocess
import sys
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyinfer.config.flags import flags_of
from pyinfer.config.foreign import IGNORED, REFUSED
from pyinfer.config.options import Options, UsageError, help_text, options_markdown, parse

DEFAULTS = {
    "help": False,
    "id": "triton",
    "exit_timeout_secs": 30,
    "log_verbose": 0,
    "log_info": True,
    "log_warning": True,
    "log_error": True,
    "log_format": "default",
    "log_file": "",
    "model_repository": (),
    "cache_config": (),
    "response_cache_byte_size": 0,
    "rate_limit": "off",
    "rate_limit_resource": (),
    "repository_cache_directory": "",
    "repository_cache_byte_size": 10737418240,
    "exit_on_error": True,
    "disable_auto_complete_config": False,
    "strict_model_config": False,
    "strict_readiness": True,
    "model_control_mode": "none",
    "repository_poll_secs": 15,
    "load_model": (),
    "model_config_name": "",
    "model_namespacing": False,
    "model_load_thread_count": 4,
    "model_load_retry_count": 0,
    "model_load_gpu_limit": (),
    "min_supported_compute_capability": (7, 5),
    "allow_http": True,
    "http_address": "127.0.0.1",
    "http_port": 8000,
    "http_max_input_size": 67108864,
    "http_header_forward_pattern": "",
    "http_restricted_api": (),
    "reuse_http_port": False,
    "reuse_grpc_port": False,
    "http_header_timeout_secs": 10,
    "http_body_timeout_secs": 30,
    "allow_grpc": True,
    "grpc_address": "127.0.0.1",
    "grpc_port": 8001,
    "grpc_use_ssl": False,
    "grpc_use_ssl_mutual": False,
    "grpc_server_cert": "",
    "grpc_server_key": "",
    "grpc_root_cert": "",
    "grpc_max_message_size": 2147483647,
    "grpc_message_timeout_secs": 30,
    "grpc_infer_response_compression_level": "none",
    "grpc_header_forward_pattern": "",
    "grpc_restricted_protocol": (),
    "grpc_keepalive_time": 7200000,
    "grpc_keepalive_timeout": 20000,
    "grpc_keepalive_permit_without_calls": False,
    "grpc_http2_max_pings_without_data": 2,
    "grpc_http2_min_recv_ping_interval_without_data": 300000,
    "grpc_http2_max_ping_strikes": 2,
    "grpc_max_connection_age": 0,
    "grpc_max_connection_age_grace": 0,
    "max_connections": 10000,
    "idle_timeout_secs": 120,
    "allow_metrics": True,
    "allow_gpu_metrics": True,
    "allow_cpu_metrics": True,
    "metrics_address": "127.0.0.1",
    "metrics_port": 8002,
    "allow_client_shm": False,
    "metrics_interval_ms": 2000,
    "metrics_config": (),
    "trace_config": (),
    "trace_file": "",
    "trace_level": (),
    "trace_rate": 1000,
    "trace_count": -1,
    "trace_log_frequency": 0,
    "backend_config": (),
    "model_files": ("m.onnx",),
    "ignored": (),
}


def test_defaults():
    assert vars(parse(["m.onnx"])) == DEFAULTS


def test_every_option_but_the_words_of_the_line_is_a_flag():
    assert {one.name for one in fields(Options)} - set(flags_of(Options)) == {"model_files", "ignored"}


VALUES = [
    (["--model-repository=a", "--model-store", "b"], "model_repository", ("a", "b")),
    (["--http-port", "9000"], "http_port", 9000),
    (["--http-port=9000", "--http-port=9001"], "http_port", 9001),
    (["--http-port=0", "--grpc-port=0", "--metrics-port=0"], "grpc_port", 0),
    (
        ["--metrics-config", "summary_latencies=true", "--metrics-config=summary_quantiles=0.5:0.1,0.9:0.01"],
        "metrics_config",
        (("summary_latencies", "true"), ("summary_quantiles", "0.5:0.1,0.9:0.01")),
    ),
    (["--model-load-gpu-limit=0:0.9", "--model-load-gpu-limit=1:.5"], "model_load_gpu_limit", ((0, 0.9), (1, 0.5))),
    (["--min-supported-compute-capability=8.0"], "min_supported_compute_capability", (8, 0)),
    (["--log-info", "off"], "log_info", False),
    (["--log-info=0"], "log_info", False),
    (["--log-info=FALSE"], "log_info", False),
    (["--allow-metrics=on"], "allow_metrics", True),
    (["--allow-metrics=1"], "allow_metrics", True),
    (["--disable-auto-complete-config"], "disable_auto_complete_config", True),
    (["--disable-auto-complete-config=false"], "disable_auto_complete_config", False),
    (["--strict-model-config=true"], "disable_auto_complete_config", True),
    (["--http-p=9000", "--allow-gr=off", "--http-por", "9001"], "http_port", 9001),
    (["--model-control-mode=explicit", "--load-model=a", "--load-model", "b"], "load_model", ("a", "b")),
    (["--model-control-mode=explicit", "--load-model=*"], "load_model", ("*",)),
    (["--model-control-mode=poll", "--repository-poll-secs=3"], "repository_poll_secs", 3),
    (["--model-config-name=small"], "model_config_name", "small"),
    (["--log-format=ISO8601"], "log_format", "ISO8601"),
    (["--reuse-http-port=on"], "reuse_http_port", True),
    (["--reuse-grpc-port=1"], "reuse_grpc_port", True),
    (["--grpc-infer-response-compression-level=low"], "grpc_infer_response_compression_level", "low"),
    (["--grpc-header-forward-pattern", "^x-"], "grpc_header_forward_pattern", "^x-"),
    (["--http-header-forward-pattern=^x-"], "http_header_forward_pattern", "^x-"),
    (["--grpc-restricted-protocol=health,trace:a=b"], "grpc_restricted_protocol", ("health,trace:a=b",)),
    (["--grpc-keepalive-time=0"], "grpc_keepalive_time", 0),
    (["--grpc-keepalive-permit-without-calls=1"], "grpc_keepalive_permit_without_calls", True),
    (["--grpc-http2-max-ping-strikes=0"], "grpc_http2_max_ping_strikes", 0),
    (["--grpc-max-connection-age=60000"], "grpc_max_connection_age", 60000),
    (
        ["--http-restricted-api=health,trace:a=b", "--http-restricted-api", "inference:c=d"],
        "http_restricted_api",
        ("health,trace:a=b", "inference:c=d"),
    ),
    (["--id="], "id", ""),
    (["--id=a=b"], "id", "a=b"),
    (["--http-address=::1"], "metrics_address", "::1"),
    (["--http-address=::1", "--metrics-address=127.0.0.2"], "metrics_address", "127.0.0.2"),
    (["--grpc-use-ssl=1", "--grpc-server-cert=c", "--grpc-server-key=k"], "grpc_use_ssl", True),
    (
        ["--grpc-use-ssl-mutual=1", "--grpc-server-cert=c", "--grpc-server-key=k", "--grpc-root-cert=r"],
        "grpc_use_ssl",
        True,
    ),
    (["--backend-config=onnxruntime,a=b"], "backend_config", (("onnxruntime", "a", "b"),)),
    (["--backend-config=k=v,w=x"], "backend_config", (("", "k", "v,w=x"),)),
    (
        ["--backend-config", "python,k=", "--backend-config=k=v"],
        "backend_config",
        (("python", "k", ""), ("", "k", "v")),
    ),
    (["--", "--odd.onnx"], "model_files", ("m", "--odd.onnx")),
    (["n", "-"], "model_files", ("m", "n", "-")),
    (
        ["--http-thread-count=8", "--grpc-infer-thread-count", "4", "--http-thread-count=9"],
        "ignored",
        ("http-thread-count", "grpc-infer-thread-count"),
    ),
    (["--http-address=127.0.0.1", "--grpc-address=127.0.0.2", "--grpc-port=8000"], "grpc_port", 8000),
    (["--allow-http=false", "--grpc-port=8000"], "grpc_port", 8000),
]


@pytest.mark.parametrize(("argv", "name", "value"), VALUES)
def test_values(argv, name, value):
    assert getattr(parse(["m", *argv]), name) == value


ERRORS = [
    ([], "nothing to serve: give --model-repository=DIR or a model file"),
    (["--x"], "unknown option '--x'; see --help"),
    (["--http-prt=1"], "unknown option '--http-prt'; did you mean '--http-port'?"),
    (["-p"], "unknown option '-p'; see --help"),
    (["--http-port"], "option '--http-port' needs a value"),
    (["--http-port", "--allow-grpc"], "option '--http-port' needs a value"),
    (["--http-port=x"], "option '--http-port' got 'x': expected an integer from 0 to 65535"),
    (["--http-port=65536"], "option '--http-port' got '65536': expected an integer from 0 to 65535"),
    (["--http-port=-1"], "option '--http-port' got '-1': expected an integer from 0 to 65535"),
    (["--http-port= 80"], "option '--http-port' got ' 80': expected an integer from 0 to 65535"),
    (["--http-port=8_000"], "option '--http-port' got '8_000': expected an integer from 0 to 65535"),
    (["--http-max-input-size=0"], "option '--http-max-input-size' got '0': expected an integer >= 1"),
    (
        ["m", "--grpc-restricted-protocol=health"],
        "option '--grpc-restricted-protocol': expected <protocol>,<protocol>,...:<key>=<value>, got 'health'",
    ),
    (
        ["m", "--grpc-restricted-protocol=health,trace:a=b", "--grpc-restricted-protocol=trace:c=d"],
        (
            "option '--grpc-restricted-protocol': restricted protocol 'trace' can not be specified in multiple "
            "config groups"
        ),
    ),
    (
        ["m", "--grpc-infer-response-compression-level=best"],
        "option '--grpc-infer-response-compression-level' got 'best': expected none or low or medium or high",
    ),
    (
        ["m", "--grpc-keepalive-time=-1"],
        "option '--grpc-keepalive-time' got '-1': expected an integer from 0 to 2147483647",
    ),
    (
        ["m", "--http-restricted-api=health"],
        "option '--http-restricted-api': expected <api>,<api>,...:<key>=<value>, got 'health'",
    ),
    (
        ["m", "--http-restricted-api=health:a=b", "--http-restricted-api=health:c=d"],
        "option '--http-restricted-api': restricted api 'health' can not be specified in multiple config groups",
    ),
    (["--log-info=maybe"], "option '--log-info' got 'maybe': expected true, on, 1, false, off or 0"),
    (
        ["--metrics-config", "summary_latencies"],
        "option '--metrics-config' got 'summary_latencies': expected <setting>=<value>",
    ),
    (["--log-format=xml"], "option '--log-format' got 'xml': expected default or ISO8601 or json"),
    (["--model-control-mode=auto"], "option '--model-control-mode' got 'auto': expected none or explicit or poll"),
    (
        ["m", "--model-config-name=../x"],
        "--model-config-name names a file in configs/ without .pbtxt: no blanks, no slashes",
    ),
    (
        ["m", "--model-config-name=a b"],
        "--model-config-name names a file in configs/ without .pbtxt: no blanks, no slashes",
    ),
    (
        ["--repository-poll-secs=-1"],
        "option '--repository-poll-secs' got '-1': expected an integer from 0 to 2147483647",
    ),
    (["m", "--load-model=a"], "Use of '--load-model' requires setting '--model-control-mode=explicit' as well."),
    (
        ["m", "--model-control-mode=explicit", "--load-model=a", "--load-model=*"],
        "Wildcard model name '*' must be the ONLY startup model if specified at all.",
    ),
    (["m", "--grpc-use-ssl=true"], "--grpc-use-ssl needs --grpc-server-cert and --grpc-server-key"),
    (
        ["m", "--grpc-use-ssl-mutual=true", "--grpc-server-cert=c", "--grpc-server-key=k"],
        "--grpc-use-ssl-mutual needs --grpc-root-cert",
    ),
    (["m", "--http-port=8001"], "--http-port and --grpc-port are both 8001 on the same address; change one"),
    (
        ["m", "--metrics-port=8001", "--metrics-address=0.0.0.0"],
        "--grpc-port and --metrics-port are both 8001 on the same address; change one",
    ),
    (["--backend-config=x"], "option '--backend-config' got 'x': expected [<backend>,]<setting>=<value>"),
    (["--backend-config=,a=b"], "option '--backend-config' got ',a=b': expected [<backend>,]<setting>=<value>"),
    (["--backend-config=a,=b"], "option '--backend-config' got 'a,=b': expected [<backend>,]<setting>=<value>"),
    (
        ["m", "--cache-config=x"],
        (
            "option '--cache-config' got 'x': No cache specified. --cache-config option format is "
            "<cache name>,<setting>=<value>. Got x"
        ),
    ),
    (
        ["m", "--cache-config=local,size"],
        (
            "option '--cache-config' got 'local,size': --cache-config option format is "
            "'<cache name>,<setting>=<value>'. Got local,size"
        ),
    ),
    (
        ["m", "--cache-config=other,size=1"],
        "there is no cache 'other'; use local,size=BYTES or redis,host=HOST and redis,port=PORT",
    ),
    (
        ["m", "--cache-config=local,size=1", "--cache-config=redis,db=1"],
        "there can be one cache only: local or redis",
    ),
    (["m", "--cache-config=local,shape=1"], "the local cache has no setting 'shape'; use local,size=BYTES"),
    (["m", "--cache-config=local,size=0"], "the size of the local cache must be a number of bytes above 0, got '0'"),
    (
        ["m", "--cache-config=local,size=1MB"],
        "the size of the local cache must be a number of bytes above 0, got '1MB'",
    ),
    (
        ["m", "--cache-config=local,size=5", "--response-cache-byte-size=5"],
        (
            "Incompatible flags --response-cache-byte-size and --cache-config both provided. Please provide one or the "
            "other."
        ),
    ),
    (
        ["m", "--allow-sagemaker=true"],
        (
            "option '--allow-sagemaker' of tritonserver can not be used: there is no SageMaker front end; leave it "
            "out, or give tritonserver's default, false"
        ),
    ),
    (["m", "--rate-limit=on"], "option '--rate-limit' got 'on': expected off or execution_count"),
    *(
        (
            ["m", f"--rate-limit-resource={value}"],
            (
                f"option '--rate-limit-resource' got '{value}': --rate-limit-resource option format is "
                f"'<resource_name>:<count>:<device>' or '<resource_name>:<count>'. Got {value}"
            ),
        )
        for value in ("", "R1", "R1:5:0:1")
    ),
    *(
        (["m", f"--rate-limit-resource={value}"], f"option '--rate-limit-resource' got '{value}': {expected}")
        for value, expected in (
            ("R1:", "expected an integer from 0 to 2147483647"),
            ("R1:-1", "expected an integer from 0 to 2147483647"),
            ("R1:99999999999", "expected an integer from 0 to 2147483647"),
            ("R1:5:", "expected an integer from -1 to 2147483647"),
            ("R1:5:x", "expected an integer from -1 to 2147483647"),
        )
    ),
]


@pytest.mark.parametrize(("argv", "error"), ERRORS)
def test_errors(argv, error):
    with pytest.raises(UsageError) as caught:
        parse(argv)
    assert str(caught.value) == error


def test_the_rate_limiter() -> None:
    assert parse(["m"]).rate_limit == "off"
    given = ["--rate-limit=Execution_Count", "--rate-limit-resource=R1:5", "--rate-limit-resource=r2:0:1"]
    options = parse(["m", *given, "--rate-limit-resource=R3:2:-1"])
    assert options.rate_limit == "execution_count"
    assert options.rate_limit_resource == (("R1", 5, None), ("r2", 0, 1), ("R3", 2, None))


@pytest.mark.parametrize("name", IGNORED)
def test_an_ignored_flag_is_reported(name):
    assert parse(["m", f"--{name}", "5"]).ignored == (name,)


def test_no_flag_has_two_meanings():
    names = [name for one in flags_of(Options).values() for name in (one.name, one.alias) if name]
    names += [*IGNORED, *REFUSED]
    assert len(names) == len(set(names))


def test_backend_options():
    options = parse(["m", "--backend-config=onnxruntime,a=1", "--backend-config=a=0", "--backend-config=b=2"])
    assert options.backend_options("onnxruntime") == {"a": "1", "b": "2"}
    assert options.backend_options("python") == {"a": "0", "b": "2"}


def test_help_needs_no_model():
    assert parse(["--help"]).help
    text = help_text()
    for one in flags_of(Options).values():
        assert f"--{one.name}" in text
        assert one.help.split()[0] in text
    assert "--http-port N" in text
    assert "(default: 8000)" in text
    assert max(len(line) for line in text.splitlines()) <= 100


def test_markdown_has_a_row_for_each_flag():
    rows = options_markdown().splitlines()
    for one in flags_of(Options).values():
        (row,) = [row for row in rows if row.startswith(f"| `--{one.name}`")]
        assert row.replace("\\|", "").count("|") == 5
    assert "| `--http-port` | `N` | `8000` | Port to serve HTTP on; 0 lets the system choose. |" in rows


def test_nothing_but_the_standard_library_is_imported():
    code = (
        "import sys; before = set(sys.modules); import pyinfer.config.options; new = set(sys.modules) - before;"
        "print(*sorted({n.partition('.')[0] for n in new} - sys.stdlib_module_names));"
        "print(*sorted(n for n in new if n.startswith('pyinfer.')))"
    )
    answer = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60).stdout
    third_party, ours = answer.splitlines()
    assert third_party == "pyinfer"
    config = ["cache", "flags", "foreign", "gpu_flags", "metrics", "options", "rate_limit", "restrictions", "tracing"]
    assert ours.split() == ["pyinfer.config", *(f"pyinfer.config.{name}" for name in config)]


@given(
    st.lists(st.text(max_size=12) | st.sampled_from(["--http-port", "--log-info=", "--", "--help", "7"]), max_size=5)
)
def test_any_command_line_is_parsed_or_refused(argv):
    try:
        result = parse(argv)
    except UsageError as error:
        result = error
    assert isinstance(result, Options) or str(result)
