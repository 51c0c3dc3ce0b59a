"""Measures as the text that Prometheus reads (exposition format 0.0.4); pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Sample = tuple[Mapping[str, str], float]


@dataclass(frozen=True)
class Measure:
    """One thing that is measured, with a sample for each combination of labels."""

    name: str
    kind: Literal["counter", "gauge"]
    text: str
    samples: tuple[Sample, ...]


def exposition(measures: Iterable[Measure], common: Mapping[str, str]) -> str:
    """Return the text of these measures.

    :param common: labels of each sample.
    """
    return "".join(_one(measure, common) for measure in measures if measure.samples)


def _one(measure: Measure, common: Mapping[str, str]) -> str:
    lines = [f"# HELP {measure.name} {_escaped(measure.text)}", f"# TYPE {measure.name} {measure.kind}"]
    lines += [f"{measure.name}{_labels({**common, **labels})} {value:.17g}" for labels, value in measure.samples]
    return "\n".join(lines) + "\n"


def _labels(labels: Mapping[str, str]) -> str:
    inner = ",".join(f'{name}="{_escaped(value, quotes=True)}"' for name, value in labels.items())
    return f"{{{inner}}}" if inner else ""


def _escaped(text: str, *, quotes: bool = False) -> str:
    text = text.replace("\\", "\\\\").replace("\n", "\\n")
    return text.replace('"', '\\"') if quotes else text
