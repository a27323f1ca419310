"""What a documented error answer means for the one request it answers."""

from __future__ import annotations

import re
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


def outcome_of(
    meaning: Meaning | None, code: str, message: str, *, status: int, retry_after_s: float | None = None
) -> Outcome:
    """The outcome of a documented error; Unknown for any other, and for one whose own words raise a doubt.

    A broker has answered 400 "Order request timed out. Please check the order book" for an order that it took.
    """
    words = f"{status} {code}: {message}"
    if meaning is None or status >= 500 or _DOUBTFUL.search(message):
        return Unknown(words)
    match meaning:
        case Meaning.REFUSED:
            return Refused(code, message)
        case Meaning.BUSY:
            return NotSent(words, retry_after_s=retry_after_s or RATE_PAUSE_S)
        case Meaning.LOGGED_OUT:
            return NotSent(words, session_dead=True)


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
