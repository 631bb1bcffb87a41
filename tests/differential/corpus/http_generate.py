# SPDX-License-Identifier: Apache-2.0
"""The generate extension: plain JSON in and out, and a stream of events."""

from __future__ import annotations

import json
from collections.abc import Iterable

from differential.case import Case, Http
from differential.corpus.build import get, post

__all__ = ["events", "generate"]


def _post(model: str, body: object, *headers: tuple[str, str], tail: str = "generate") -> Http:
    return post(f"/v2/models/{model}/{tail}", body, *headers)


_BODIES: tuple[tuple[str, str], ...] = (
    ("flat", '{"INPUT0":1.5}'), ("flat", '{"INPUT0":[1,2,3]}'), ("flat", '{"INPUT0":[]}'), ("flat", '{"INPUT0":[[1],[2]]}'), ("flat", '{"INPUT0":"x"}'), ("flat", '{"INPUT0":null}'), ("flat", '{"INPUT0":true}'),
    ("flat", '{"INPUT0":{"a":1}}'), ("flat", "{}"), ("flat", ""), ("flat", "x"), ("flat", "[]"), ("flat", "null"), ("flat", '{"INPUT0":1,"id":"a"}'), ("flat", '{"INPUT0":1,"id":5}'), ("flat", '{"INPUT0":1,"other":2}'),
    ("flat", '{"INPUT0":1,"INPUT0":2}'), ("flat", '{"INPUT0":1e400}'), ("flat", '{"INPUT0":1'), ("flat", '{"INPUT0":1,"parameters":{"a":1}}'), ("flat", '{"INPUT0":1,"parameters":5}'), ("flat", '{"INPUT0":1,"parameters":null}'),
    ("flat", '{"parameters":{"INPUT0":3}}'), ("flat", '{"INPUT0":1,"parameters":{"INPUT0":3}}'),
    ("fp32", '{"INPUT0":1}'), ("fp32", '{"INPUT0":[1,2]}'), ("fixed", '{"INPUT0":[1,2,3,4]}'), ("fixed", '{"INPUT0":[1,2,3]}'), ("fixed", '{"INPUT0":[1,2,3,4,5,6,7,8]}'), ("fixed", '{"INPUT0":1}'),
    ("flat_text", '{"INPUT0":"text"}'), ("flat_text", '{"INPUT0":["text"]}'), ("flat_text", '{"INPUT0":["a","b"]}'), ("flat_text", '{"INPUT0":""}'), ("flat_text", '{"INPUT0":5}'), ("flat_text", r'{"INPUT0":"\u00e9\n"}'),
    ("bytes", '{"INPUT0":"a"}'), ("bytes", '{"INPUT0":["a","b"]}'), ("flat_fixed", '{"INPUT0":[1,2,3,4]}'), ("flat_fixed", '{"INPUT0":[1,2]}'), ("matrix", '{"INPUT0":[1,2,3,4]}'), ("matrix", '{"INPUT0":[1,2,3]}'), ("cube", '{"INPUT0":[1,2,3,4]}'),
    ("bool", '{"INPUT0":true}'), ("bool", '{"INPUT0":[true,false]}'), ("bool", '{"INPUT0":1}'), ("int8", '{"INPUT0":300}'), ("int8", '{"INPUT0":1.5}'), ("uint64", '{"INPUT0":18446744073709551615}'), ("int64", '{"INPUT0":-9223372036854775808}'), ("fp64", '{"INPUT0":0.1}'),
    ("fp16", '{"INPUT0":1}'), ("bf16", '{"INPUT0":1}'), ("pair", '{"A":[1,2],"B":[3,4]}'), ("pair", '{"A":[1,2]}'), ("pair", '{"A":[1,2],"B":[3,4],"C":[1]}'), ("optional", '{"A":1}'), ("optional", '{"A":1,"C":2}'), ("optional", '{"B":1}'),
    ("inspect", '{"INPUT":1,"text":"a","number":3,"truth":true,"float":1.5}'), ("inspect", '{"INPUT":1,"parameters":{"text":"a","number":3}}'), ("inspect", '{"INPUT":1,"list":[1,2]}'), ("inspect", '{"INPUT":1,"object":{"a":1}}'),
    ("inspect", '{"INPUT":1,"nothing":null}'), ("inspect", '{"INPUT":1,"sequence_id":5}'), ("inspect", '{"INPUT":1,"sequence_id":"x"}'), ("inspect", '{"INPUT":1,"priority":1,"timeout":2}'), ("inspect", '{"INPUT":1,"triton_x":1}'), ("inspect", '{"INPUT":1,"binary_data_output":true}'),
    ("inspect", '{"INPUT":1,"outputs":["SIZE"]}'), ("inspect", '{"INPUT":1,"model_name":"x"}'), ("scores_flat", '{"SCORES":[1,2,3,4]}'), ("reshape", '{"INPUT":1}'), ("versions_all", '{"INPUT":1}'), ("fail", '{"INPUT":[1,2],"mode":"raise"}'),
    ("fail", '{"INPUT":[1,2],"mode":"code NOT_FOUND"}'), ("fail", '{"INPUT":[1,2]}'), ("repeat", '{"IN":[5]}'), ("repeat", '{"IN":[1,2,3]}'), ("repeat", '{"IN":[]}'), ("repeat", '{"IN":[1,2],"mode":"error at 1"}'), ("repeat", '{"IN":[1,2],"mode":"raise"}'),
    ("repeat", '{"IN":[1,2],"mode":"final with the last"}'), ("repeat", '{"IN":[1,2],"id":"a"}'), ("unknown", '{"INPUT0":1}'), ("sequence", '{"INPUT":1,"sequence_id":77,"sequence_start":true,"sequence_end":true}'),
)  # fmt: skip


def generate() -> Iterable[Case]:
    yield from _all("generate")


def events() -> Iterable[Case]:
    yield from _all("generate_stream")


def _all(tail: str) -> Iterable[Case]:
    for model, body in _BODIES:
        yield Case(f"{model} {body}", _post(model, body, tail=tail))
    good = '{"INPUT0":[1,2]}'
    for version in ("1", "2", "0"):
        yield Case(f"version {version}", post(f"/v2/models/flat/versions/{version}/{tail}", good))
    for method in ("GET", "PUT"):
        yield Case(method, post(f"/v2/models/flat/{tail}", good, method=method))
    yield Case("accepts gzip", _post("flat", good, ("Accept-Encoding", "gzip"), tail=tail))
    for encoding in ("gzip", "deflate", "identity", "br"):
        yield Case(f"as {encoding}", _post("flat", good, ("Content-Encoding", encoding), tail=tail))
    yield Case(
        "with a header length", _post("flat", good, ("Inference-Header-Content-Length", str(len(good))), tail=tail)
    )
    yield Case("with a wrong header length", _post("flat", good, ("Inference-Header-Content-Length", "3"), tail=tail))
    yield Case("load metrics", _post("flat", good, ("endpoint-load-metrics-format", "json"), tail=tail))
    yield Case("long", _post("flat", json.dumps({"INPUT0": [0.5] * 2000}), tail=tail))
    yield Case("path", get(f"/v2/models/flat/{tail}/"))
