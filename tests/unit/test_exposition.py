"""The text for Prometheus, read back by a parser of the test's own."""

from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from pgevents_push.transports.exposition import Measure, exposition

SAMPLE = re.compile(r'([a-z_]+)(?:\{((?:[a-z]+="(?:[^"\\\n]|\\["\\n])*",?)*)\})? (\S+)')
LABEL = re.compile(r'([a-z]+)="((?:[^"\\\n]|\\["\\n])*)"')
UNESCAPED = {"\\\\": "\\", '\\"': '"', "\\n": "\n"}


def read(text: str) -> list[tuple[str, dict[str, str], float]]:
    found = []
    for line in text.split("\n")[:-1]:
        if not line.startswith("# "):
            match = SAMPLE.fullmatch(line)
            assert match, line
            labels = {name: re.sub(r"\\.", lambda m: UNESCAPED[m[0]], v) for name, v in LABEL.findall(match[2] or "")}
            found.append((match[1], labels, float(match[3])))
    return found


def test_the_format_to_the_letter() -> None:
    measures = [
        Measure("a_total", "counter", "What\nit is.", (({}, 3), ({"why": 'x"y'}, 0.5))),
        Measure("nothing", "gauge", "No samples.", ()),
    ]
    assert exposition(measures, {"pid": "7"}) == (
        '# HELP a_total What\\nit is.\n# TYPE a_total counter\na_total{pid="7"} 3\na_total{pid="7",why="x\\"y"} 0.5\n'
    )


@settings(deadline=None)
@given(st.text(), st.text(), st.floats(allow_nan=False))
def test_no_name_breaks_out_of_its_label(text: str, name: str, value: float) -> None:
    shown = exposition([Measure("m", "gauge", text, (({"handler": name}, value),))], {})
    assert read(shown) == [("m", {"handler": name}, value)]
