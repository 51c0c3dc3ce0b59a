"""What a browser gets of a change: the JSON object, cut down to the columns of a view; pure.

The texts are PostgreSQL's own and pass through unread. Columns are cut out of them, not decoded, so that
no digit, order or spelling changes on the way; the one exception are numbers that JavaScript would
garble, which become strings (README, "Numbers").
"""

from __future__ import annotations

import json
import re
from decimal import Decimal
from functools import lru_cache

from pgevents_push.event import ChangeEvent, decode, exact_number, fast_loads
from pgevents_push.hub import Chunk, View

# A cheap look for what might not fit a double: 16 digits in a row, or an exponent of two digits. Only where a number
# may begin, for uuids and hashes are full of both: rows with them are made three times as fast so.
_SUSPICIOUS = re.compile(r"[:,\[\s]-?[0-9](?:[0-9.]{15}|[0-9.]*[eE][+-]?[0-9]{2})")
_MAX_SAFE_INTEGER = 2**53 - 1  # ECMA-262, Number.MAX_SAFE_INTEGER
_STRING = r'"[^"\\]*(?:\\.[^"\\]*)*"'
_STRINGS_AND_NUMBERS = re.compile(_STRING + r"|-?[0-9][0-9.eE+-]*")
_BRACKETS = re.compile(_STRING + r"|[][{}]")
_DEEPER = {"[": 1, "{": 1, "]": -1, "}": -1}
_SPACE = re.compile(r"[ \t\n\r]*")
_raw_value = json.JSONDecoder(parse_int=str, parse_float=str).raw_decode


def change_json(event: ChangeEvent, view: View) -> str | None:
    """Return the object as JSON text; None when an update changed nothing that this view shows."""
    changed = _visible_names(event.changed_json, view.columns)
    pk, old_pk = _pick(event.pk_json, view.exposed), _pick(event.old_pk_json, view.exposed)
    old_pk = None if old_pk == pk else old_pk  # a part of the key that is hidden changed: nobody's business
    # Where only keys are captured, nobody knows what changed.
    known = not event.truncated or event.changed_json != "[]"
    if event.type == "update" and changed == "[]" and old_pk is None and known:
        return None
    row, old = _pick(event.row_json, view.columns), _pick(event.old_json, view.columns)
    parts = [f'{{"id":"{event.id}","type":"{event.type}",{_named(event.schema, event.table)},"pk":{pk}']
    if old_pk is not None:
        parts.append(f'"old_pk":{old_pk}')
    parts.append(f'"row":{row or "null"},"old":{old or "null"},"changed":{changed},"tx":"{event.tx}"')
    if event.truncated:
        parts.append('"truncated":true')
    parts.append(f'"last":{"true" if event.last else "false"},"at":"{event.at_text}"}}')
    return ",".join(parts)


@lru_cache(maxsize=1024)
def _named(schema: str, table: str) -> str:
    return f'"schema":{json.dumps(schema)},"table":{json.dumps(table)}'


def rows_json(chunk: Chunk) -> str:
    """Return rows of a snapshot as they come in one message."""
    marks = f'"first":{"true" if chunk.first else "false"},"last":{"true" if chunk.last else "false"}'
    return f'{{{_named(*chunk.table)},"rows":[{rows_text(chunk)}],{marks}}}'


def rows_text(chunk: Chunk) -> str:
    """Return rows of a snapshot, between them commas."""
    return for_javascript(",".join(chunk.rows))


def for_javascript(text: str) -> str:
    """Return JSON text in which no number is one that JavaScript would garble."""
    return _safe_for_javascript(text) if _SUSPICIOUS.search(text) else text


def _pick(text: str | None, columns: frozenset[str] | None) -> str | None:
    if text is None:
        return None
    if columns is not None and not _has_only(text, columns):
        kept = (raw for name, raw in _members(text) if name in columns)
        text = f"{{{','.join(kept)}}}"
    return for_javascript(text)


def _has_only(text: str, columns: frozenset[str]) -> bool:
    """Whether nothing has to be cut out, which is the rule: a decoder in C finds that out four times as fast."""
    try:
        return columns.issuperset(fast_loads(text))
    except (ValueError, RecursionError):
        return False


def _members(text: str) -> list[tuple[str, str]]:
    """Split a JSON object into (name, `"name":value` as spelled), without decoding the values."""
    members, at = [], _skip(text, text.index("{") + 1)
    while text[at] != "}":
        start = at
        name, at = _raw_value(text, at)
        at = _skip(text, text.index(":", at) + 1)
        at = _end_of_value(text, at)
        members.append((name, text[start:at]))
        at = _skip(text, at)
        at = _skip(text, at + 1) if text[at] == "," else at
    return members


def _end_of_value(text: str, at: int) -> int:
    try:
        return int(_raw_value(text, at)[1])
    except RecursionError:  # PostgreSQL takes several thousand levels, Python's parser a thousand
        depth = 0
        for token in _BRACKETS.finditer(text, at):
            depth += _DEEPER.get(token[0], 0)
            if depth == 0:
                return token.end()
        raise


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


def _visible_names(changed: str, columns: frozenset[str] | None) -> str:
    if columns is None or changed == "[]":
        return changed
    return json.dumps([name for name in decode(changed) if name in columns], separators=(",", ":"))


def _safe_for_javascript(text: str) -> str:
    """Put the numbers that a double cannot hold into quotes; all other tokens stay as they are spelled."""
    return _STRINGS_AND_NUMBERS.sub(lambda token: token[0] if _fits(token[0]) else f'"{token[0]}"', text)


def _fits(token: str) -> bool:
    if token[0] == '"' or len(token) < 4:
        return True
    if token.lstrip("-").isdigit():
        return len(token) <= 17 and abs(int(token)) <= _MAX_SAFE_INTEGER
    return not isinstance(exact_number(token), Decimal)
