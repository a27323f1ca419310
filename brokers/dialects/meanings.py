"""What a documented error answer means for the one request it answers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto

from brokers.answers import Unfit, printable
from brokers.transport import Answer, Lost, NeverSent
from domain.outcomes import NotSent, Outcome, Refused, Unknown

_DOUBTFUL = re.compile(r"time[ds]?[ -]?out|order ?book", re.IGNORECASE)
RATE_PAUSE_S = 1.0  # both brokers' shortest window; neither says how long to wait


class Meaning(Enum):
    REFUSED = auto()  # surely no order
    BUSY = auto()  # surely not taken: over a rate limit
    LOGGED_OUT = auto()  # surely not taken: the session is dead
    NOTHING = auto()  # documented, and yet the order may have been taken


@dataclass(frozen=True, slots=True)
class Documented:
    """An error that a broker's documentation names for a call: what it proves, and what it says in short."""

    meaning: Meaning
    words: str


# The statuses that a broker documents for a no; 207 is that of a line on its own. Under any other the same words are new.
_UNDER: Mapping[Meaning, frozenset[int]] = {
    Meaning.REFUSED: frozenset({207, 400, 401, 403, 404, 405, 406, 410, 422, 423}),
    Meaning.BUSY: frozenset({429}),
    Meaning.LOGGED_OUT: frozenset({401, 403}),
    Meaning.NOTHING: frozenset(),
}


def outcome_of(
    meaning: Meaning | None, code: str, message: str, *, status: int, retry_after_s: float | None = None
) -> Outcome:
    """The outcome of a documented error; Unknown for any other, and for one whose own words raise a doubt.

    A broker has answered 400 "Order request timed out. Please check the order book" for an order that it took.
    """
    words = f"{status} {code}: {message}"
    if meaning is None or status not in _UNDER[meaning] or is_doubtful(message):
        return Unknown(words)
    match meaning:
        case Meaning.REFUSED:
            return Refused(code, message)
        case Meaning.BUSY:
            return NotSent(words, retry_after_s=retry_after_s or RATE_PAUSE_S)
        case Meaning.LOGGED_OUT:
            return NotSent(words, session_dead=True)
    return Unknown(words)


def is_doubtful(message: str) -> bool:
    """Whether a broker's words say that it doesn't know itself."""
    return _DOUBTFUL.search(message) is not None


def outcome_without_words(answer: Answer) -> Outcome:
    """The outcome of a call that ended without an answer, or with one that its broker doesn't document."""
    match answer:
        case NeverSent(why):
            return NotSent(why)
        case Lost(why):
            return Unknown(why)
        case _:
            return Unknown(f"{answer.status}: {' '.join(printable(answer.text[:120]).split()) or 'an empty answer'}")


def unfit_read(outcome: Outcome) -> Unfit:
    """Why a read gave nothing, from the outcome that its answer would be for a request."""
    match outcome:
        case Refused(code, message):
            return Unfit(f"{code}: {message}")
        case NotSent(why, session_dead=dead):
            return Unfit(why, session_dead=dead)
        case Unknown(why):
            return Unfit(why)
    raise AssertionError(outcome)
