"""Chance: random numbers that leave the application's generator alone, which it may have seeded, and that differ in
each worker."""

from __future__ import annotations

import random

_SYSTEM = random.SystemRandom()


def chance() -> float:
    """Return a number from 0 up to, but not, 1."""
    return _SYSTEM.random()


def between(least: float, most: float) -> float:
    """Return a number in this range."""
    return _SYSTEM.uniform(least, most)
