"""LIKE and ILIKE patterns: read once, then matched without backtracking; pure.

Between two `%` stands a piece of fixed length. Taking the leftmost place for each is always right, so the work is
bounded by the length of the text times that of the pattern; `re` with `.*` would need its square, or cube.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from string import ascii_lowercase, ascii_uppercase

# A place that any one character fills; no text holds this one.
_ANY = "\ud800"
_FOLD = str.maketrans(ascii_uppercase, ascii_lowercase)


@dataclass(frozen=True, slots=True)
class Pattern:
    """What a text must look like: pieces with anything between them."""

    pieces: tuple[str, ...]

    @property
    def text(self) -> str:
        """The pattern as PostgreSQL reads it without an ESCAPE clause."""
        return "%".join(re.sub(r"[\\%_]", r"\\\g<0>", piece).replace(_ANY, "_") for piece in self.pieces)

    def folded(self, folding: tuple[str, ...]) -> Pattern:
        """Return the pattern for texts that `fold` has folded."""
        return Pattern(tuple(map(fold(folding), self.pieces)))

    def matcher(self) -> Callable[[str], bool]:
        """Return a function that tells whether a whole text matches."""
        first, *rest = [_Piece(piece) for piece in self.pieces]
        if not rest:
            return lambda text: len(text) == first.length and first.at(text, 0)
        *inner, last = rest

        def matches(text: str) -> bool:
            place, end = first.length, len(text) - last.length
            if place > end or not first.at(text, 0):
                return False
            for piece in inner:
                found = piece.find(text, place, end)
                if found < 0:
                    return False
                place = found + piece.length
            return last.at(text, end)

        return matches


class _Piece:
    """Characters, or places for any one, in a row."""

    def __init__(self, piece: str) -> None:
        self.length = len(piece)
        self._plain = None if _ANY in piece else piece
        self._regex = re.compile("".join("." if c == _ANY else re.escape(c) for c in piece), re.DOTALL)

    def at(self, text: str, place: int) -> bool:
        if self._plain is not None:
            return text.startswith(self._plain, place)
        return self._regex.match(text, place) is not None

    def find(self, text: str, start: int, end: int) -> int:
        if self._plain is not None:
            return text.find(self._plain, start, end)
        found = self._regex.search(text, start, end)
        return found.start() if found else -1


def read_pattern(text: str, escape: str = "\\") -> Pattern:
    """Read a LIKE pattern.

    :param escape: the character that takes the meaning from the next one; "" for none.
    :raises ValueError: the pattern ends with the escape character, which PostgreSQL refuses too.
    """
    pieces, rest = [""], iter(text)
    for character in rest:
        if character == escape:
            character = next(rest, "")
            if not character:
                raise ValueError("it ends with the escape character.")
            pieces[-1] += character
        elif character == "%":
            pieces.append("")
        else:
            pieces[-1] += _ANY if character == "_" else character
    # `%%` is `%`.
    return Pattern((pieces[0], *filter(None, pieces[1:-1]), *pieces[1:][-1:]))


def fold(folding: tuple[str, ...]) -> Callable[[str], str]:
    """Return what makes two texts the same where ILIKE does not tell them apart.

    :param folding: see `Collation`.
    """
    special: dict[int, int | str] = dict(zip((0x212A, 0x130), folding, strict=False))
    table = {**_FOLD, **special}
    return lambda text: text.translate(table)
