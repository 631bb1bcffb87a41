# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re

from perf.request_path import SCRIPT, executed, linker_script

# Two objects; "+1" and "*" are positions relative to the line before; a function is named once, then by its number.
_PROFILE = """\
version: 1
events: Ir
ob=(1) /somewhere/pyinfer/_core.so
fn=(1) _ZN7pyinfer5ServeEv
12 400
+1 100
cob=(2) /lib/libc.so.6
cfn=(7) _Zmalloc
calls=500 1
+2 90000
fn=(2) _ZN7pyinfer6RefuseEv
30 12
fn=(1)
13 25
fn=(3) _ZN7pyinfer5ServeEv'2
14 30
fn=(4) 0x0000000000053540
99 5000
ob=(2)
fn=(7)
5 90000
""".splitlines()


def test_what_ran_often_enough_by_its_own_instructions() -> None:
    assert executed(_PROFILE, "/_core.", 500) == {"_ZN7pyinfer5ServeEv"}
    assert executed(_PROFILE, "/_core.", 12) == {"_ZN7pyinfer5ServeEv", "_ZN7pyinfer6RefuseEv"}
    assert executed(_PROFILE, "/_core.", 556) == set()


def test_what_more_kinds_need_comes_first_and_clones_share_a_line() -> None:
    script = linker_script([{"_Zb.constprop.0", "_Za", "_Zb"}, {"_Zc", "_Zb"}])
    assert re.findall(r"\*\((.*)\)", script) == [f".text.{stem} .text.{stem}.*" for stem in ("_Zb", "_Za", "_Zc")]


def test_the_script_of_the_build_is_one_of_ours() -> None:
    text = SCRIPT.read_text()
    stems = re.findall(r"\.text\.(\S+) \.text", text)
    assert len(stems) > 100
    assert sorted(linker_script([set(stems)]).splitlines()) == sorted(text.splitlines())
    assert any("GrpcConnection" in stem for stem in stems)
    assert any("HttpConnection" in stem for stem in stems)
