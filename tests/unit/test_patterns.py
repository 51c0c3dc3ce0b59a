"""LIKE patterns match as PostgreSQL's, and none takes long."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgevents_push.hub.patterns import fold, read_pattern


def matches(pattern: str, text: str, escape: str = "\\") -> bool:
    return read_pattern(pattern, escape).matcher()(text)


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("", "", True), ("", "a", False), ("%", "", True), ("%%", "abc", True), ("_", "", False), ("_", "\n", True),
        ("a%", "a", True), ("%a", "ba", True), ("a%a", "a", False), ("a%a", "aa", True), ("%a%", "bab", True),
        ("a%b%c", "aXbYc", True), ("a%b%c", "acb", False), ("%ab%ab%", "abab", True),
        ("%ab%ab%", "aba", False),
        ("_%_", "a", False), ("_%_", "ab", True), ("%_a", "aa", True), ("%a_b%", "aacab", False),
        ("%a_b%", "aacb", True),
        ("\\%", "%", True), ("\\%", "a", False), ("\\_", "_", True), ("\\\\", "\\", True), ("\\a", "a", True),
        ("a.c", "abc", False), ("a.c", "a.c", True), ("[a]", "a", False), ("^a$", "a", False),
        ("%\U0001d4b3_", "\U0001d4b3\U0001d4b3", True),
    ],
)  # fmt: skip
def test_matches(pattern: str, text: str, expected: bool) -> None:
    assert matches(pattern, text) is expected


def test_another_escape_character_or_none() -> None:
    assert matches("a/%", "a%", "/")
    assert not matches("a/%", "ab", "/")
    assert matches("a\\%", "a\\b", "/")
    assert matches("a\\%", "a\\b", "")
    assert matches("//", "/", "/")


@pytest.mark.parametrize(("pattern", "escape"), [("a\\", "\\"), ("\\", "\\"), ("a/", "/"), ("%\\\\\\", "\\")])
def test_must_not_end_with_the_escape_character(pattern: str, escape: str) -> None:
    with pytest.raises(ValueError, match="ends with the escape"):
        read_pattern(pattern, escape)


@given(st.text("ab%_\\", max_size=8), st.text("ab%_\\", max_size=8))
def test_as_a_regular_expression_would(pattern: str, text: str) -> None:
    spelled = re.findall(r"\\.|[^\\]", pattern)
    if "".join(spelled) != pattern:
        return
    regex = "".join({"%": ".*", "_": "."}.get(one, re.escape(one[-1])) for one in spelled)
    assert matches(pattern, text) is (re.fullmatch(regex, text) is not None)
    assert matches(read_pattern(pattern).text, text) is matches(pattern, text)


def test_folding() -> None:
    assert fold(())("AbZ\u00c4\u212a\u0130") == "abz\u00c4\u212a\u0130"
    assert fold(("k", "i\u0307"))("AbZ\u00c4\u212a\u0130") == "abz\u00c4ki\u0307"
    assert read_pattern("A_%\\_").folded(()).text == "a_%\\_"


@pytest.mark.parametrize("pattern", ["%a" * 50 + "b", "%" + "a_" * 49 + "b%", "%" + "_" * 98 + "b%", "%a_" * 33 + "b"])
def test_no_pattern_takes_long(pattern: str) -> None:
    """With `.*` the first would take some 10^50 steps. Measured: at most 30 ms on a text of 256 kB."""
    match = read_pattern(pattern).matcher()
    began = time.thread_time()
    assert not match("a" * 256_000)
    assert time.thread_time() - began < 1
