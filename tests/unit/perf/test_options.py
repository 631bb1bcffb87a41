# SPDX-License-Identifier: Apache-2.0
"""The flags of ``pyinfer perf``: perf_analyzer's spellings are understood, and what is not there is refused by name."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from pyinfer.config.flags import UsageError
from pyinfer.perf.foreign import IGNORED, REFUSED, SWITCHES
from pyinfer.perf.options import PerfOptions, Range, help_text, parse
from pyinfer.perf.tls import TlsFlags, TlsSettings

ROOT = Path(__file__).resolve().parents[3]


def read(*argv: str) -> PerfOptions:
    options = parse(["-m", "model", *argv])
    assert options is not None
    return options


def test_defaults_are_those_of_perf_analyzer() -> None:
    options = read()
    assert (options.protocol, options.batch_size, options.concurrency) == ("http", 1, Range(1, 1, 1))
    assert (options.interval_ms, options.stability_percent, options.max_trials) == (5000, 10, 10)
    assert (options.percentile, options.window_requests, options.string_length) == (-1, 50, 128)
    assert options.input_data == ("random",)


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        ("-i gRPC", {"protocol": "grpc"}),
        ("-b8", {"batch_size": 8}),
        ("--concurrency-range 4", {"concurrency": Range(4, 4, 1)}),
        ("--concurrency-range=1:9:4", {"concurrency": Range(1, 9, 4)}),
        ("--request-rate-range 0.5:2.5", {"request_rate": Range(0.5, 2.5, 1), "concurrency": None}),
        ("-p 100 -s 5 -r 3", {"interval_ms": 100, "stability_percent": 5, "max_trials": 3}),
        ("--measurement-interval=7 --stability-percentage=999", {"interval_ms": 7, "stability_percent": 999}),
        (
            "--measurement-mode count_windows --measurement-request-count 9",
            {"count_windows": True, "window_requests": 9},
        ),
        ("--shape a:1,2 --shape b:c:3", {"shapes": {"a": (1, 2), "b:c": (3,)}}),
        ("--request-parameter p:7:int", {"parameters": (("p", 7),)}),
        ("--request-parameter p:7:uint", {"parameters": (("p", 7),)}),
        ("--bls-composing-models a:3,b", {"composing": (("a", "3"), ("b", ""))}),
        (
            "--trace-level TIMESTAMPS --trace-level TENSORS --trace-rate 10 --trace-count -1 --log-frequency 0",
            {
                "trace": {
                    "trace_level": ["TIMESTAMPS", "TENSORS"],
                    "trace_rate": ["10"],
                    "trace_count": ["-1"],
                    "log_frequency": ["0"],
                }
            },
        ),
        ("--ssl-grpc-use-ssl=false -v -v --max-threads 8", {}),
        (
            (
                "--ssl-grpc-use-ssl=true --ssl-grpc-root-certifications-file=r --ssl-grpc-private-key-file=k"
                " --ssl-grpc-certificate-chain-file=c"
            ),
            {"tls": TlsFlags(True, TlsSettings("r", "c", "k"))},
        ),
        (
            (
                "--ssl-https-verify-peer=0 --ssl-https-verify-host=1 --ssl-https-ca-certificates-file=r"
                " --ssl-https-client-certificate-file=c --ssl-https-client-certificate-type=DER"
                " --ssl-https-private-key-file=k --ssl-https-private-key-type=PEM"
            ),
            {"tls": TlsFlags(https=TlsSettings("r", "c", "k", "DER", "PEM", False, True))},
        ),
        ("--request-parameter p:a:b:string", {"parameters": (("p", "a:b"),)}),
        ("--request-parameter p:true:bool", {"parameters": (("p", True),)}),
        ("-H X-A:b:c -H Y:z", {"headers": (("X-A", "b:c"), ("Y", "z"))}),
        ("--concurrency-range=1:0 -l 5", {"concurrency": Range(1, 0, 1), "latency_threshold_ms": 5}),
        ("--input-data a.json --input-data b.json", {"input_data": ("a.json", "b.json")}),
        ("--shared-memory none --service-kind=triton", {}),
        ("--streaming -i grpc", {"streaming": True}),
        ("--request-rate-range 9 --burst 3", {"burst": 3}),
        ("--shared-memory system --output-shared-memory-size=9", {"shared_memory": "system"}),
        ("-i grpc --grpc-compression-algorithm gzip", {"grpc_compression": "gzip"}),
        (
            "--service-kind openai --endpoint v1/completions --input-data a.json",
            {"service_kind": "openai", "endpoint": "v1/completions"},
        ),
        (
            "--service-kind openai --input-data a.json --session-concurrency 3",
            {"session_concurrency": 3, "concurrency": None},
        ),
        ("--highest-rate p99:2.5", {"highest_rate": True, "percentile": 99, "latency_threshold_ms": 2.5}),
        ("--highest-rate=20 --burst 2", {"percentile": -1, "latency_threshold_ms": 20, "concurrency": None}),
        ("--collect-metrics --metrics-url h:1/m --metrics-interval 5", {"metrics_url": "h:1/m"}),
        ("--num-of-sequences 9 --sequence-length=7", {"sequences": 9, "sequence_length": 7}),
        ("--sequence-length-variation 5 --serial-sequences", {"sequence_variation": 5, "serial_sequences": True}),
        ("--sequence-id-range 7", {"sequence_ids": (7, 0)}),
        ("--sequence-id-range=7:9", {"sequence_ids": (7, 9)}),
        ("--start-sequence-id 3", {"sequence_ids": (3, 0)}),
        ("--fixed-schedule --input-data a.json", {"fixed_schedule": True, "concurrency": None}),
        (
            "--periodic-concurrency-range=2:11:3 --request-period 4",
            {"periodic": Range(2, 11, 3), "request_period": 4, "concurrency": None},
        ),
    ],
)
def test_what_is_understood(argv: str, expected: dict[str, object]) -> None:
    options = read(*argv.split())
    assert {name: getattr(options, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        ("--concurrency-range 0", "start above 0"),
        ("--concurrency-range 1:2:3:4", "not start:end:step"),
        ("--concurrency-range 1.5", "whole number"),
        ("--concurrency-range 5:3", "end not below the start"),
        ("--concurrency-range 1:9:0", "step must be above 0"),
        ("--concurrency-range 99999", "above 65535"),
        ("--concurrency-range 1:0", "needs --latency-threshold"),
        ("--request-rate-range nan", "start above 0"),
        ("--request-rate-range 1 --concurrency-range 1", "give one of"),
        ("--request-rate-range 1 --request-intervals f", "give one of"),
        ("--binary-search --concurrency-range 1:8", "needs a range with start and end, and --latency-threshold"),
        ("--percentile 100", "from 1 to 99"),
        ("-b 0", "not an integer from 1 on"),
        ("--shape a", "not NAME:DIM"),
        ("--shape a:-1", "not NAME:DIM"),
        ("--request-parameter p:x:int", "no int"),
        ("--request-parameter p:-1:uint", "no uint"),
        ("-i grpc --ssl-grpc-use-ssl maybe", "'maybe' is not true or false"),
        ("--ssl-https-verify-peer 2", "from 0 to 1"),
        ("--ssl-https-private-key-type P12", "invalid choice"),
        ("--request-parameter p:1", "not NAME:VALUE:TYPE"),
        ("-H novalue", "not NAME:VALUE"),
        ("-i grpc --input-tensor-format json", "for -i http"),
        ("--connections 1 --threads 2", "each thread needs one"),
        ("--input-data a.json --input-data b", "JSON files only"),
        ("-i carrier-pigeon", "invalid choice"),
        ("--burst 3", "is for --request-rate-range"),
        ("--burst 65536 --request-rate-range 9", "from 1 to 65535"),
        ("--num-of-sequences 65536", "from 1 to 65535"),
        ("--shared-memory gpu", "invalid choice: 'gpu'"),
        ("--service-kind tfserving", "'tfserving' can not be used"),
        ("--grpc-compression-algorithm gzip", "is for -i grpc"),
        ("-i grpc --streaming --grpc-compression-algorithm gzip", "without --streaming"),
        ("--service-kind openai", "needs --input-data FILE.json"),
        ("--service-kind openai -i grpc --input-data a.json", "over HTTP"),
        ("--metrics-url h:1/m", "needs --collect-metrics"),
        ("--sequence-id-range 0", "not START or START:END"),
        ("--sequence-id-range 5:5", "not START or START:END"),
        ("--sequence-length-variation 101", "from 0 to 100"),
        ("--fixed-schedule", "needs --input-data FILE.json"),
        ("--periodic-concurrency-range 1:6:2", "step must divide"),
        ("--periodic-concurrency-range 1:0", "step must divide"),
        ("--periodic-concurrency-range 1:3 --concurrency-range 2", "give one of"),
        ("--periodic-concurrency-range 1:3 --threads 2", "carried by one"),
        ("--periodic-concurrency-range 1:3 --request-count 2", "there is no --request-count"),
        ("--periodic-concurrency-range 1:3 --warmup-request-count 2", "there is no --warmup-request-count"),
        ("--fixed-schedule --input-data a.json --request-count 4", "there is no --request-count"),
        ("--fixed-schedule --input-data a.json --request-rate-range 4", "give one of"),
        ("--bls-composing-models a,:3", "is not MODEL[:VERSION],..."),
        ("--trace-level ALL", "invalid choice: 'ALL'"),
        ("--service-kind openai --input-data a.json --trace-rate 1", "no trace extension"),
        ("--session-concurrency 3", "is for --service-kind openai"),
        ("--service-kind openai --input-data a.json --session-concurrency 0", "from 1 to"),
        ("--service-kind openai --input-data a.json --session-concurrency 1 --concurrency-range 2", "give one of"),
        (
            "--service-kind openai --input-data a.json --session-concurrency 1 --request-count 2",
            "there is no --request",
        ),
        ("--highest-rate p100:2", "is not pN:MS"),
        ("--highest-rate 99:2", "is not pN:MS"),
        ("--highest-rate p99:0", "is not pN:MS"),
        ("--highest-rate p99:2 -l 5", "has its limit itself"),
        ("--highest-rate p99:2 --request-rate-range 5", "give one of"),
        ("--nonsense", "unrecognized"),
    ],
)
def test_what_is_refused(argv: str, text: str) -> None:
    with pytest.raises(UsageError, match=re.escape(text)):
        read(*argv.split())


def test_header_can_not_smuggle_another() -> None:
    with pytest.raises(UsageError, match="not NAME:VALUE"):
        read("-H", "A:b\r\nC: d")


def test_a_model_is_needed() -> None:
    with pytest.raises(UsageError, match="no model"):
        parse([])


@pytest.mark.parametrize("name", REFUSED)
def test_flags_of_perf_analyzer_are_refused_with_a_reason(name: str) -> None:
    with pytest.raises(UsageError, match=re.escape(f"'{name}'") + ".*" + re.escape(REFUSED[name][1])):
        read(*([name] if name in SWITCHES else [f"{name}=7" if name.startswith("--") else f"{name}7"]))


@pytest.mark.parametrize("name", IGNORED)
def test_flags_without_effect_are_told(name: str) -> None:
    options = read(name, *(["4"] if name in ("--max-threads", "--model-signature-name") else []))
    assert options.notes == (f"{name} has no effect: {IGNORED[name]}",)


def test_every_flag_of_perf_analyzer_is_known() -> None:
    """Its own help, against ours: each flag works, is refused with a reason, or is told to have no effect."""
    tool = ROOT / "build/perf_analyzer/bin/perf_analyzer"
    if not tool.exists():
        pytest.skip("perf_analyzer is not installed: make build/perf_analyzer/.stamp")
    usage = subprocess.run([tool, "--help"], capture_output=True, text=True, check=False)
    theirs = set(re.findall(r"^\s*(--[a-z][a-z-]+)", usage.stdout + usage.stderr, re.MULTILINE)) - {"--version"}
    assert len(theirs) > 50
    ours = set(re.findall(r"--[a-z][a-z-]+", help_text())) | set(REFUSED) | set(IGNORED)
    assert theirs <= ours


#: all of Triton 2.73's perf_analyzer, each with a value that it takes
FLAGS = """
-m model|-x 1|--service-kind triton|--endpoint v1/completions|--bls-composing-models a:3,b|--model-signature-name s|-v
--measurement-mode count_windows|-p 100|--measurement-interval 100|--measurement-request-count 9|-s 5
--stability-percentage 5|--percentile 95|--warmup-request-count 1|--request-count 1|-r 3|--max-trials 3
--concurrency-range 1:4:2|--periodic-concurrency-range 1:4:1|--request-period 4|--session-concurrency 2
--request-rate-range 1.5:4|--request-distribution poisson|--request-intervals f|--fixed-schedule|-l 5
--latency-threshold 5|--binary-search|--request-parameter a:1:int|--max-threads 4|--num-of-sequences 4
--sequence-length 20|--sequence-length-variation 20|--sequence-id-range 1:9|--serial-sequences|--input-data zero|-b 1
--shape a:1,2|--string-data s|--string-length 8|--shared-memory system|--output-shared-memory-size 9
--input-tensor-format json|--output-tensor-format json|-i grpc|-a|--async|--sync|--streaming|-H a:b
--grpc-compression-algorithm none|--grpc-method m|--proto f|-u h:1|--ssl-grpc-use-ssl
--ssl-grpc-root-certifications-file f|--ssl-grpc-private-key-file f|--ssl-grpc-certificate-chain-file f
--ssl-https-verify-peer 1|--ssl-https-verify-host 2|--ssl-https-ca-certificates-file f
--ssl-https-client-certificate-file f|--ssl-https-client-certificate-type PEM|--ssl-https-private-key-file f
--ssl-https-private-key-type PEM|--triton-server-directory d|--model-repository d|--collect-metrics|--metrics-url h:1/m
--metrics-interval 5|-f f|--verbose-csv|--profile-export-file f|--trace-level OFF|--trace-rate 1000|--trace-count -1
--log-frequency 0|--data-directory d|-t 4|-c 4|-d|-z|--enable-mpi|--start-sequence-id 1
"""
#: what else it takes for a flag to be understood
COMPANIONS = {
    "--fixed-schedule": ["--input-data", "a.json"],
    "--session-concurrency": ["--service-kind", "openai", "--input-data", "a.json"],
    "--binary-search": ["--concurrency-range", "1:8", "-l", "5"],
    "--metrics-url": ["--collect-metrics"],
}


@pytest.mark.parametrize("given", [one.strip() for line in FLAGS.split("\n") for one in line.split("|") if one.strip()])
def test_each_flag_of_perf_analyzer_has_its_meaning_or_is_answered(given: str) -> None:
    """It changes what is done, or it is told that it does not, or why it can not be: never is it passed over."""
    flag = given.split()[0]
    if flag in REFUSED:
        with pytest.raises(UsageError, match=re.escape(REFUSED[flag][1])):
            read(*given.split())
        return
    companions = COMPANIONS.get(flag, [])
    options, without = read(*companions, *given.split()), read(*companions)
    if flag in IGNORED:
        assert options.notes == (f"{flag} has no effect: {IGNORED[flag]}",)
    elif given not in DEFAULTS:
        assert options != without


#: that ask for what is done anyway
DEFAULTS = {
    *("-m model", "--service-kind triton", "--input-data random", "-b 1", "--grpc-compression-algorithm none"),
    *("--ssl-https-verify-peer 1", "--ssl-https-verify-host 2", "--start-sequence-id 1", "--num-of-sequences 4"),
    *("--ssl-https-client-certificate-type PEM", "--ssl-https-private-key-type PEM", "--sequence-length-variation 20"),
}


@pytest.mark.parametrize("kind", ["triton_c_api", "tfserving", "torchserve", "dynamic_grpc"])
def test_other_services_are_refused_with_what_there_is(kind: str) -> None:
    with pytest.raises(UsageError, match="servers of the KServe v2 protocol .* and of OpenAI's API are measured"):
        read("--service-kind", kind)
