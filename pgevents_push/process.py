"""Process: which one this is, since a forked child runs copies of what its parent had."""

from __future__ import annotations

import os

_forks = 0


def _count() -> None:
    global _forks
    _forks += 1


os.register_at_fork(after_in_child=_count)


def process() -> int:
    """Return a number that is another one in a forked child. The kernel, asked for the process id, takes 4 us when it
    was busy with something else."""
    return _forks
