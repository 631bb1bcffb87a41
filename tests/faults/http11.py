# SPDX-License-Identifier: Apache-2.0
"""What RFC 9110 and RFC 9112 have a server refuse, as messages: the bytes, the clause, and the outcomes that it leaves.

An outcome that the clause allows but that this server does not choose is not listed where the choice is ours to keep.
It does NOT send anything; test_http11.py does.
"""

from __future__ import annotations

from dataclasses import dataclass

from contract.http.raw import HOST, post
from faults.client import document, tensor

__all__ = [
    "BODY",
    "CHUNKED",
    "HIDDEN",
    "INFER",
    "REFUSED",
    "SIZE",
    "WHOLE",
    "Refused",
    "get",
    "sized",
    "target",
]

INFER = "/v2/models/fp32/infer"
BODY = document(tensor((1, 2), [1.5, -2]))
#: what a smuggler hides: executed, it would be counted
HIDDEN = post(INFER, BODY)
START = f"POST {INFER} HTTP/1.1\r\n".encode()
GET = b"GET /v2 HTTP/1.1\r\n"
CHUNKED = START + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
WHOLE = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)


@dataclass(frozen=True)
class Refused:
    """Answered with one of the statuses and closed, and nothing of it is executed. ``eof``: the client then ends."""

    clause: str
    sent: bytes
    statuses: tuple[int, ...] = (400,)
    eof: bool = False


def get(*lines: bytes, line: bytes = GET) -> bytes:
    return line + b"".join(part + b"\r\n" for part in (*lines, b""))


def target(text: bytes, *lines: bytes, verb: bytes = b"GET") -> bytes:
    return get(*(lines or (b"Host: test",)), line=verb + b" " + text + b" HTTP/1.1\r\n")


def version(text: bytes) -> bytes:
    return get(b"Host: test", line=b"GET /v2 " + text + b"\r\n")


def sized(*lengths: bytes, body: bytes = BODY) -> bytes:
    """A request with these Content-Length lines, what follows their colon."""
    return START + HOST + b"".join(b"Content-Length:" + length + b"\r\n" for length in lengths) + b"\r\n" + body


def coded(*lines: bytes, body: bytes = WHOLE, start: bytes = START) -> bytes:
    """A chunked request with these lines in place of its Transfer-Encoding."""
    return start + HOST + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body + HIDDEN


def chunks(text: bytes) -> bytes:
    return CHUNKED + text + HIDDEN


SIZE = b"%d" % len(BODY)
EITHER = (400, 501)

LINES = {
    "bare LF after the request line": Refused("9112 2.2", b"GET /v2 HTTP/1.1\nHost: test\r\n\r\n"),
    "bare LF after a field": Refused("9112 2.2", b"GET /v2 HTTP/1.1\r\nHost: test\nX: y\r\n\r\n"),
    "bare LF everywhere": Refused("9112 2.2", b"GET /v2 HTTP/1.1\nHost: test\n\n"),
    "bare LF at the end of the head": Refused("9112 2.2", b"GET /v2 HTTP/1.1\r\nHost: test\r\n\n"),
    "bare CR everywhere": Refused("9112 2.2", b"GET /v2 HTTP/1.1\rHost: test\r\r"),
    "bare CR after a field": Refused("9112 2.2", b"GET /v2 HTTP/1.1\r\nHost: test\rX: y\r\n\r\n"),
    "bare CR in a value": Refused("9112 2.2", get(b"Host: test", b"X: a\rb")),
    "bare CR in a name": Refused("9112 2.2", get(b"Host: test", b"X\rY: a")),
    "bare CR in the target": Refused("9112 2.2", target(b"/v2\rx")),
    "CR CR LF": Refused("9112 2.2", b"GET /v2 HTTP/1.1\r\r\nHost: test\r\n\r\n", (400, 505)),
    "blank before the first field": Refused("9112 2.2", get(b" Host: test")),
    "tab before the first field": Refused("9112 2.2", get(b"\tHost: test")),
    "line of blanks before the first field": Refused("9112 2.2", get(b"  ", b"Host: test")),
    "blank before the request line": Refused("9112 2.2", b" " + get(b"Host: test")),
    "zero bytes": Refused("9112 3", b"\0" * 64),
    "random bytes": Refused("9112 3", bytes(range(128, 256))),
    "TLS": Refused("9112 3", b"\x16\x03\x01\x00\x05hello"),
    "preface of HTTP/2": Refused("9112 2.3", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", (400, 505)),
    "head that ends early": Refused("9112 8", b"GET /v2 HTTP/1.1\r\nHost: te", eof=True),
}

REQUEST_LINE = {
    "no target": Refused("9112 3", get(b"Host: test", line=b"GET HTTP/1.1\r\n")),
    "no version": Refused("9112 3", get(b"Host: test", line=b"GET /v2\r\n")),
    "nothing but a version": Refused("9112 3", get(b"Host: test", line=b"HTTP/1.1\r\n")),
    "two blanks before the target": Refused("9112 3", get(b"Host: test", line=b"GET  /v2 HTTP/1.1\r\n")),
    "two blanks before the version": Refused("9112 3", get(b"Host: test", line=b"GET /v2  HTTP/1.1\r\n")),
    "tabs between the parts": Refused("9112 3", get(b"Host: test", line=b"GET\t/v2\tHTTP/1.1\r\n")),
    "blank at the end": Refused("9112 3", get(b"Host: test", line=b"GET /v2 HTTP/1.1 \r\n")),
    "method in lower case": Refused("9110 9.1", target(b"/v2", verb=b"get"), (400, 405, 501)),
    "method that is no token": Refused("9110 9.1", target(b"/v2", verb=b"G(T")),
    "method with a comma": Refused("9110 9.1", target(b"/v2", verb=b"GET,POST")),
    "unknown method": Refused("9110 9.1", target(b"/v2", verb=b"BREW"), (400, 405, 501)),
    "method of 10 KB": Refused("9112 3", target(b"/v2", verb=b"G" * 10_000), (400, 414, 501)),
    "target of 64 KiB": Refused("9112 3", target(b"/" + b"a" * 65_536), (414,)),
    "blank in the target": Refused("9112 3.2", target(b"/v2 x")),
    "NUL in the target": Refused("9112 3.2", target(b"/v2\0")),
    "control character in the target": Refused("9112 3.2", target(b"/v2\x01")),
    "DEL in the target": Refused("9112 3.2", target(b"/v2\x7f")),
    "8-bit character in the target": Refused("9112 3.2", target(b"/v2\xe9")),
    "tab in the target": Refused("9112 3.2", target(b"/v2\tx")),
    "target without a slash": Refused("9112 3.2.1", target(b"v2")),
    "authority as the target of GET": Refused("9112 3.2.3", target(b"test:80")),
    "absolute form without Host": Refused("9112 3.2", b"GET http://test/v2 HTTP/1.1\r\n\r\n"),
    **{
        f"version {text!r}": Refused("9112 2.3", version(text.encode()), (400, 505))
        for text in (
            "HTTP/2.0",
            "HTTP/3.0",
            "HTTP/1.2",
            "HTTP/0.9",
            "HTTP/9.9",
            "HTTP/1",
            "HTTP/1.",
            "HTTP/.1",
            "HTTP/01.1",
            "HTTP/1.01",
            "HTTP/1.10",
            "HTTP/1,1",
            "HTTP/1.1x",
            "HTTP/+1.1",
            "HTTP /1.1",
            "HTTP/ 1.1",
            "http/1.1",
            "HTTPS/1.1",
            "XTTP/1.1",
        )
    },
}

FIELDS = {
    "blank before the colon": Refused("9112 5.1", get(b"Host : test")),
    "tab before the colon": Refused("9112 5.1", get(b"Host: test", b"X\t: y")),
    "empty name": Refused("9112 5", get(b"Host: test", b": y")),
    "no colon": Refused("9112 5", get(b"Host: test", b"nothing")),
    "name with a blank": Refused("9110 5.1", get(b"Host: test", b"X Y: z")),
    "name with a bracket": Refused("9110 5.1", get(b"Host: test", b"X(Y): z")),
    "name in quotes": Refused("9110 5.1", get(b"Host: test", b'"X": z')),
    "name with NUL": Refused("9110 5.1", get(b"Host: test", b"X\0Y: z")),
    "name with a control character": Refused("9110 5.1", get(b"Host: test", b"X\x01Y: z")),
    "name with an 8-bit character": Refused("9110 5.1", get(b"Host: test", b"X\xe9: z")),
    "value with NUL": Refused("9110 5.5", get(b"Host: test", b"X: a\0b")),
    "folded line, blank": Refused("9112 5.2", get(b"Host: test", b"X: a", b" b")),
    "folded line, tab": Refused("9112 5.2", get(b"Host: test", b"X: a", b"\tb")),
    "folded Transfer-Encoding": Refused("9112 5.2", coded(b"Transfer-Encoding:", b" chunked")),
    "folded Content-Length": Refused("9112 5.2", sized(b"\r\n " + SIZE)),
    "line of blanks among the fields": Refused("9112 5.2", get(b"Host: test", b" ", b"X: a")),
    "field of 64 KiB": Refused("9110 5.4", get(b"Host: test", b"X: " + b"y" * 65_536), (431,)),
    "200 fields": Refused("9110 5.4", get(b"Host: test", *[b"X: y"] * 200), (431,)),
}

HOSTS = {
    "no Host": Refused("9112 3.2", get(b"X: y")),
    "Host twice, the same": Refused("9112 3.2", get(b"Host: test", b"Host: test")),
    "Host twice": Refused("9112 3.2", get(b"Host: test", b"Host: other")),
    "Host twice in HTTP/1.0": Refused("9112 3.2", get(b"Host: a", b"Host: b", line=b"GET /v2 HTTP/1.0\r\n")),
    **{
        f"Host of {value!r}": Refused("9112 3.2", get(b"Host: " + value.encode("latin-1")))
        for value in (
            "user@test",
            "test/path",
            "http://test",
            "a b",
            "a, b",
            "a\tb",
            "test:port",
            "test:80:80",
            "test:-1",
            "te\xe9st",
            "te?st",
            "te#st",
            "te%st",
            "[::1",
            "::1]:80",
            "[::1]x",
            "<test>",
        )
    },
}

LENGTHS = {
    **{
        f"length of {value!r}": Refused("9110 8.6", sized(value.encode("latin-1"), body=b"{}" + HIDDEN))
        for value in (
            "",
            " ",
            " abc",
            " +2",
            " -2",
            " -0",
            " 0x2",
            " 0o2",
            " 2.0",
            " 2e0",
            " 2_0",
            " 2 0",
            " 2;",
            " '2'",
            " 2\x0b",
            " \x0b2",
            " \xb2",
            " 2, 3",
            " 2,2",
            " 2,",
            " 18446744073709551617",
            " 18446744073709551618",
            " 9223372036854775808",
            " 999999999999999999999999999999",
        )
    },
    "two lengths": Refused("9112 6.3", sized(b" 2", b" 3", body=b"{}" + HIDDEN)),
    "two equal lengths": Refused("9112 6.3", sized(b" 2", b" 2", body=b"{}" + HIDDEN)),
    "blank before the colon of the length": Refused(
        "9112 5.1", START + HOST + b"Content-Length : 2\r\n\r\n{}" + HIDDEN
    ),
    "body that ends early": Refused("9112 8", sized(b" 1000"), eof=True),
}

CODINGS = {
    "length and chunks": Refused("9112 6.1", coded(b"Content-Length: 5", b"Transfer-Encoding: chunked")),
    "chunks and length": Refused("9112 6.1", coded(b"Transfer-Encoding: chunked", b"Content-Length: 5")),
    "length of 0 and chunks": Refused("9112 6.1", coded(b"Content-Length: 0", b"Transfer-Encoding: chunked")),
    "length and an unknown coding": Refused("9112 6.1", coded(b"Content-Length: 5", b"Transfer-Encoding: x"), EITHER),
    "chunks in HTTP/1.0": Refused(
        "9112 6.1", coded(b"Transfer-Encoding: chunked", start=START.replace(b"HTTP/1.1", b"HTTP/1.0"))
    ),
    "chunks and length in HTTP/1.0": Refused(
        "9112 6.1",
        coded(b"Transfer-Encoding: chunked", b"Content-Length: 5", start=START.replace(b"HTTP/1.1", b"HTTP/1.0")),
    ),
    "chunked twice": Refused("9112 6.1", coded(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"), EITHER),
    "chunked, and identity": Refused(
        "9112 6.1", coded(b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity"), EITHER
    ),
    # 9112 5.1 has the tab dropped; llhttp refuses it, and no client sends it
    "tab after the coding": Refused("9112 6.1", coded(b"Transfer-Encoding: chunked\t")),
    "blank before the colon of the coding": Refused("9112 5.1", coded(b"Transfer-Encoding : chunked")),
    **{
        f"coding of {value!r}": Refused("9112 6.1", coded(b"Transfer-Encoding:" + value.encode("latin-1")), EITHER)
        for value in (
            "",
            " identity",
            " gzip",
            " xchunked",
            " chunkedx",
            " chunked-1",
            " gzip, chunked",
            " chunked, gzip",
            " chunked, chunked",
            " chunked, identity",
            " , chunked",
            " chunked;q=1",
            " chunked;a=b",
            ' "chunked"',
            " 'chunked'",
            " chunk ed",
            " chunked\x0b",
            " \x0bchunked",
            " \x0cchunked",
            " chunked\x00",
            " \x00chunked",
            " \xa0chunked",
            " chu\xf1ked",
            " chunked\x01",
        )
    },
}

CHUNKS = {
    **{
        f"size of {value!r}": Refused("9112 7.1", chunks(value + b"\r\n" + WHOLE.split(b"\r\n", 1)[1]))
        for value in (
            b"",
            b"x",
            b"0x2",
            b"-2",
            b"+2",
            b"2_0",
            b"2.0",
            b" 2",
            b"2 ",
            b"\t2",
            b"2\t",
            b"2\0",
            b"2,2",
            b"\xef\xbc\x92",
            b"10000000000000002",
            b"fffffffffffffffff",
            b"ffffffffffffffff",
            b"8000000000000000",
            b"2;",
            b"2;;a",
            b"2;=b",
            b"2;a=",
            b"2;a b",
            b"2;a\0",
            b"2;a=b\x01",
            b'2;a="b',
            b"2;a=\xe9",
            b"2;" + b"x" * 65_536,
        )
    },
    "bare LF after the size": Refused("9112 7.1", chunks(b"2\n{}\r\n0\r\n\r\n")),
    "bare CR after the size": Refused("9112 7.1", chunks(b"2\r{}\r\n0\r\n\r\n")),
    "bare LF in an extension": Refused("9112 7.1", chunks(b"2;a\nb\r\n{}\r\n0\r\n\r\n")),
    "bare CR in an extension": Refused("9112 7.1", chunks(b"2;a\rb\r\n{}\r\n0\r\n\r\n")),
    "bare LF after the data": Refused("9112 7.1", chunks(b"2\r\n{}\n0\r\n\r\n")),
    "bare CR after the data": Refused("9112 7.1", chunks(b"2\r\n{}\r0\r\n\r\n")),
    "nothing after the data": Refused("9112 7.1", chunks(b"2\r\n{}0\r\n\r\n")),
    "data longer than its size": Refused("9112 7.1", chunks(b"1\r\n{}\r\n0\r\n\r\n")),
    "data shorter than its size": Refused("9112 7.1", chunks(b"3\r\n{}\r\n0\r\n\r\n")),
    "bare LF after the last chunk": Refused("9112 7.1", chunks(b"2\r\n{}\r\n0\n\r\n")),
    "bare LF at the end": Refused("9112 7.1", chunks(b"2\r\n{}\r\n0\r\n\n")),
    "no last chunk": Refused("9112 8", CHUNKED + b"2\r\n{}\r\n", eof=True),
    "no end of the trailers": Refused("9112 8", CHUNKED + WHOLE[:-2], eof=True),
    "trailer without a colon": Refused("9112 7.1.2", chunks(WHOLE[:-2] + b"nothing\r\n\r\n")),
    "trailer with a bare LF": Refused("9112 7.1.2", chunks(WHOLE[:-2] + b"X: y\n\r\n")),
    "trailer with a bare CR": Refused("9112 7.1.2", chunks(WHOLE[:-2] + b"X: y\rz\r\n\r\n")),
    "trailer with NUL": Refused("9112 7.1.2", chunks(WHOLE[:-2] + b"X: \0\r\n\r\n")),
    "trailer with a blank before its colon": Refused("9112 7.1.2", chunks(WHOLE[:-2] + b"X : y\r\n\r\n")),
    "folded trailer": Refused("9112 7.1.2", chunks(WHOLE[:-2] + b"X: y\r\n z\r\n\r\n")),
}

REFUSED = {**LINES, **REQUEST_LINE, **FIELDS, **HOSTS, **LENGTHS, **CODINGS, **CHUNKS}
