"""Upstox's multi-place, where the lines of one request have fates of their own; what befalls all is in the other table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from outcome_words import DOUBT, Book, End


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """A multi-place of three lines whose fates differ."""

    name: str
    wire: str
    ends: tuple[End, End, End]
    books: tuple[Book, Book, Book]
    requests: int = 1
    bad_lines: tuple[int, ...] = ()  # sent with a quantity of 0
    faults: tuple[Mapping[str, Any], ...] = ()


_A, _R, _U = End.ACCEPTED, End.REFUSED, End.UNKNOWN
_ORDER, _NOTHING = Book.ORDER, Book.NOTHING

BATCHES = (
    Batch(
        name="bad line",
        wire="line 2 stops the batch (400, `payload_error` 1); the others are sent once more",
        ends=(_A, _R, _A),
        books=(_ORDER, _NOTHING, _ORDER),
        requests=2,
        bad_lines=(1,),
    ),
    Batch(
        name="bad lines only",
        wire="every line has a payload error; nothing is sent again",
        ends=(_R, _R, _R),
        books=(_NOTHING, _NOTHING, _NOTHING),
        bad_lines=(0, 1, 2),
    ),
    Batch(
        name="second answer lost",
        wire="line 2 stops the batch; the answer to the second request is lost",
        ends=(_U, _R, _U),
        books=(_ORDER, _NOTHING, _ORDER),
        requests=2,
        bad_lines=(1,),
        faults=({"kind": "drop_after", "skip": 1},),
    ),
    Batch(
        name="second request lost",
        wire="line 2 stops the batch; the second request is lost on its way",
        ends=(_U, _R, _U),
        books=(_NOTHING, _NOTHING, _NOTHING),
        requests=2,
        bad_lines=(1,),
        faults=({"kind": "drop_before", "skip": 1},),
    ),
    Batch(
        name="line refused",
        wire="207: line 2 fails with a documented code (`UDAPI1158`)",
        ends=(_A, _R, _A),
        books=(_ORDER, _NOTHING, _ORDER),
        faults=({"kind": "refuse_lines", "lines": [1], "code": "UDAPI1158"},),
    ),
    Batch(
        name="every line refused",
        wire="400: each line fails with a documented code (`UDAPI1158`)",
        ends=(_R, _R, _R),
        books=(_NOTHING, _NOTHING, _NOTHING),
        faults=({"kind": "refuse_lines", "code": "UDAPI1158"},),
    ),
    Batch(
        name="line failed",
        wire="207: line 2 fails with `UDAPI100500`, an unexpected failure",
        ends=(_A, _U, _A),
        books=(_ORDER, _NOTHING, _ORDER),
        faults=({"kind": "refuse_lines", "lines": [1], "code": "UDAPI100500"},),
    ),
    Batch(
        name="line in doubt",
        wire="207: line 2 fails with a documented code whose text says that it timed out",
        ends=(_A, _U, _A),
        books=(_ORDER, _NOTHING, _ORDER),
        faults=({"kind": "refuse_lines", "lines": [1], "code": "UDAPI1158", "message": DOUBT},),
    ),
    Batch(
        name="line limited",
        wire="207: line 2 fails with `UDAPI10005`, which is documented for a whole request only",
        ends=(_A, _U, _A),
        books=(_ORDER, _NOTHING, _ORDER),
        faults=({"kind": "refuse_lines", "lines": [1], "code": "UDAPI10005"},),
    ),
)
