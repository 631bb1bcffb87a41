# SPDX-License-Identifier: Apache-2.0
"""Every flag of tritonserver, with its default: it is here, without effect, or refused, and never unknown."""

import pytest

from pyinfer.config.flags import flags_of
from pyinfer.config.foreign import IGNORED, REFUSED
from pyinfer.config.options import Options, UsageError, parse

#: name -> default as text; "" where there is none, None for a switch
TRITON = {
    "help": None,
    "id": "triton",
    "exit-timeout-secs": "30",
    "log-verbose": "0",
    "log-info": "true",
    "log-warning": "true",
    "log-error": "true",
    "log-format": "default",
    "log-file": "",
    "model-repository": "",
    "model-store": "",
    "exit-on-error": "true",
    "disable-auto-complete-config": None,
    "strict-readiness": "true",
    "model-control-mode": "none",
    "repository-poll-secs": "15",
    "load-model": "",
    "model-config-name": "",
    "model-load-thread-count": "4",
    "model-load-retry-count": "0",
    "model-namespacing": "false",
    "enable-peer-access": "true",
    "allow-http": "true",
    "http-address": "0.0.0.0",
    "http-port": "8000",
    "reuse-http-port": "false",
    "http-header-forward-pattern": "",
    "http-thread-count": "8",
    "http-max-input-size": "67108864",
    "http-restricted-api": "",
    "allow-grpc": "true",
    "grpc-address": "0.0.0.0",
    "grpc-port": "8001",
    "reuse-grpc-port": "false",
    "grpc-header-forward-pattern": "",
    "grpc-infer-thread-count": "2",
    "grpc-infer-allocation-pool-size": "8",
    "grpc-max-response-pool-size": "2147483647",
    "grpc-use-ssl": "false",
    "grpc-use-ssl-mutual": "false",
    "grpc-server-cert": "",
    "grpc-server-key": "",
    "grpc-root-cert": "",
    "grpc-infer-response-compression-level": "none",
    "grpc-keepalive-time": "7200000",
    "grpc-keepalive-timeout": "20000",
    "grpc-keepalive-permit-without-calls": "false",
    "grpc-http2-max-pings-without-data": "2",
    "grpc-http2-min-recv-ping-interval-without-data": "300000",
    "grpc-http2-max-ping-strikes": "2",
    "grpc-max-connection-age": "",
    "grpc-max-connection-age-grace": "",
    "grpc-restricted-protocol": "",
    "allow-sagemaker": "false",
    "sagemaker-port": "8080",
    "sagemaker-safe-port-range": "",
    "sagemaker-thread-count": "8",
    "allow-vertex-ai": "false",
    "vertex-ai-port": "8080",
    "vertex-ai-thread-count": "8",
    "vertex-ai-default-model": "",
    "allow-metrics": "true",
    "allow-gpu-metrics": "true",
    "allow-cpu-metrics": "true",
    "metrics-address": "",
    "metrics-port": "8002",
    "metrics-interval-ms": "2000",
    "metrics-config": "",
    "trace-config": "",
    "backend-directory": "/opt/tritonserver/backends",
    "backend-config": "",
    "repoagent-directory": "/opt/tritonserver/repoagents",
    "cache-config": "",
    "cache-directory": "/opt/tritonserver/caches",
    "rate-limit": "off",
    "rate-limit-resource": "",
    "pinned-memory-pool-byte-size": "268435456",
    "cuda-memory-pool-byte-size": "0:67108864",
    "cuda-virtual-address-size": "0:1073741824",
    "min-supported-compute-capability": "0",
    "buffer-manager-thread-count": "0",
    "host-policy": "",
    "model-load-gpu-limit": "",
    "allow-client-shm": "false",
    "strict-model-config": "false",
    "response-cache-byte-size": "0",
    "trace-file": "",
    "trace-level": "OFF",
    "trace-rate": "1000",
    "trace-count": "-1",
    "trace-log-frequency": "0",
}
#: flags whose default differs on purpose, or stands for what another flag says
OTHER_DEFAULT = {"http-address": "127.0.0.1", "grpc-address": "127.0.0.1", "metrics-address": "127.0.0.1"}

HERE = {name: key for key, one in flags_of(Options).items() for name in (one.name, one.alias) if name}


@pytest.mark.parametrize("name", TRITON)
def test_every_flag_is_known_in_one_way(name):
    assert [name in HERE, name in IGNORED, name in REFUSED].count(True) == 1


@pytest.mark.parametrize("name", [name for name, default in TRITON.items() if default and name not in OTHER_DEFAULT])
def test_the_default_may_be_given(name):
    default = TRITON[name]
    ports = ["--http-port=0", "--grpc-port=0", "--metrics-port=0"]
    plain, given = parse(["m", *ports]), parse(["m", *ports, f"--{name}={default}"])
    assert given == parse(["m", *ports, f"--{name}", default])
    if name in ("http-port", "grpc-port", "metrics-port"):
        assert getattr(Options(), HERE[name]) == int(default)
    elif name in HERE:
        # it changes nothing, unless it asks for one more of several
        assert given == plain or isinstance(getattr(plain, HERE[name]), tuple)
    else:
        assert given.ignored == ((name,) if name in IGNORED else ())


@pytest.mark.parametrize("name", OTHER_DEFAULT)
def test_defaults_that_differ(name):
    assert getattr(parse(["m"]), HERE[name]) == OTHER_DEFAULT[name]
    assert getattr(parse(["m", f"--{name}=0.0.0.0"]), HERE[name]) == "0.0.0.0"


@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_says_why(name):
    default, reason = REFUSED[name]
    assert default == TRITON[name]
    assert len(reason.split()) > 3
    with pytest.raises(UsageError) as caught:
        parse(["m", f"--{name}=7"])
    assert str(caught.value).startswith(f"option '--{name}' of tritonserver can not be used: {reason}; leave it out")


def test_flags_that_tritonserver_does_not_have_are_marked():
    assert {name for name, key in HERE.items() if name not in TRITON} == {
        name for name, key in HERE.items() if flags_of(Options)[key].is_own
    }


@pytest.mark.parametrize("name", TRITON)
def test_names_may_be_cut_short_as_getopt_has_it(name):
    """The shortest beginning that is no other flag's of tritonserver; what pyinfer adds changes none of them."""
    others = [other for other in TRITON if other != name]
    cut = next(
        (name[:end] for end in range(1, len(name) + 1) if not any(other.startswith(name[:end]) for other in others)),
        name,
    )
    value = [] if TRITON[name] is None else ["=" + (TRITON[name] or "x")]
    assert _outcome(f"--{cut}", value) == _outcome(f"--{name}", value)


def _outcome(flag, value):
    try:
        return parse(["m", flag + "".join(value)])
    except UsageError as error:
        return str(error)


@pytest.mark.parametrize(
    ("word", "error"),
    [
        (
            "--log=1",
            (
                "option '--log' is ambiguous: "
                "--log-verbose, --log-info, --log-warning, --log-error, --log-format, --log-file"
            ),
        ),
        ("--allow-h", None),
        ("--http-h", None),
        (
            "--model-load",
            (
                "option '--model-load' is ambiguous: "
                "--model-load-thread-count, --model-load-retry-count, --model-load-gpu-limit"
            ),
        ),
        ("--max-conn=5", None),
        ("--=5", "unknown option '--'; see --help"),
        ("--nope", "unknown option '--nope'; see --help"),
    ],
)
def test_ambiguous_names(word, error):
    found = _outcome(word, [] if "=" in word else ["=true"])
    if error is None:
        assert not isinstance(found, str) or "ambiguous" not in found
    else:
        assert found == error
