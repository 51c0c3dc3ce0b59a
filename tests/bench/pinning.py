"""Pinning: the app has one core, everything else another, so that they do not take turns by chance."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress

import psutil

_CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
POSSIBLE = len(_CORES) > 1


def pin_app(pids: Iterable[int]) -> None:
    """Bind the processes that serve to the first core. One core only, or not Linux: does nothing."""
    for pid in pids:
        _pin(pid, 0)


def pin_rest(pids: Iterable[int]) -> None:
    """Bind processes and their present children to the second core; later children inherit it."""
    for pid in pids:
        for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
            _pin(process.pid, 1)


def _pin(pid: int, core: int) -> None:
    if POSSIBLE:
        try:
            os.sched_setaffinity(pid, {_CORES[core]})
        except ProcessLookupError:
            pass  # a backend that has just ended


def free(pid: int) -> None:
    """Take the binding back. Ended already: does nothing."""
    if POSSIBLE:
        with suppress(ProcessLookupError):
            os.sched_setaffinity(pid, set(_CORES))
