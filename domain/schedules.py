"""Schedules: what is to be done at a time or before a session ends, and what has come of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any

from pydantic import AfterValidator, Field, StringConstraints, WithJsonSchema

from domain.cancels import CancelPolicy, CancelRequest
from domain.errors import Fault, Malformed
from domain.ids import new_id
from domain.instruments import EXCHANGES, Instrument
from domain.market import SESSIONS, Session, end_of_session, has_sessions, session_of

AHEAD_MAX = timedelta(days=30)
LATE_BY_S = 300  # by default: what couldn't be done so soon after its time is not done any more
LATE_BY_MAX_S = 86_400
BEFORE_END_MAX = 240  # minutes


def _moment(text: str) -> str:
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError("the time's offset from UTC is missing: write 2026-11-26T15:10:00+05:30")
    return text


Moment = Annotated[
    str,
    StringConstraints(pattern=r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,6})?(Z|[+-]\d{2}:\d{2})$"),
    AfterValidator(_moment),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]


class ScheduledCancel(CancelRequest):
    """A cancel request, now or later. What its filter means is looked up when it is carried out."""

    at: Moment | None = None
    """When, with its offset from UTC, at most 30 days ahead."""

    at_session_end: Annotated[int, Field(strict=True, ge=0, le=BEFORE_END_MAX)] | None = None
    """So many minutes before each instrument's session ends. Simulated accounts have no end."""

    late_by_sec: Annotated[int, Field(strict=True, ge=1, le=LATE_BY_MAX_S)] | None = None
    """How much later than its time it may still be carried out, after an outage; 300 when not given."""

    @property
    def is_scheduled(self) -> bool:
        return self.at is not None or self.at_session_end is not None

    def now(self) -> CancelRequest:
        """The request itself, without its time."""
        return CancelRequest.model_validate(self.model_dump(exclude={"at", "at_session_end", "late_by_sec"}))

    def find_faults(self, now: datetime) -> Iterator[Fault]:
        """What is wrong with its time, whatever it cancels."""
        if self.at is not None and self.at_session_end is not None:
            yield Fault("/atSessionEnd", "CONTRADICTS", "give a time or the session's end, not both")
        if self.late_by_sec is not None and not self.is_scheduled:
            yield Fault("/lateBySec", "BAD_VALUE", "it goes with `at` or `atSessionEnd`")
        if self.at is not None:
            at = datetime.fromisoformat(self.at)
            if at <= now:
                yield Fault("/at", "IN_THE_PAST", f"it is {now.isoformat(timespec='seconds')} already")
            elif at > now + AHEAD_MAX:
                yield Fault("/at", "TOO_LARGE", f"at most {AHEAD_MAX.days} days ahead")
        if self.is_scheduled and self.policy is CancelPolicy.FAIL_FAST:
            yield Fault("/policy", "BAD_VALUE", "later, each order is cancelled for itself: BEST_EFFORT")


def now_or_later(request: CancelRequest) -> CancelRequest:
    """The request; without anything of a time, where it has none. Raises Malformed."""
    if not isinstance(request, ScheduledCancel) or request.is_scheduled:
        return request
    if request.late_by_sec is not None:
        raise Malformed((Fault("/lateBySec", "BAD_VALUE", "it goes with `at` or `atSessionEnd`"),))
    return request.now()


class Kind(StrEnum):
    CANCEL = "CANCEL"
    SQUARE_OFF = "SQUARE_OFF"  # the rest of one, once the orders that stood against it have ended


class State(StrEnum):
    PENDING = "PENDING"
    FIRING = "FIRING"  # begun: it can't be removed any more
    FIRED = "FIRED"  # carried out: the intent tells what came of it
    MISSED = "MISSED"  # it could not be begun in time
    FAILED = "FAILED"  # it can't be carried out
    REMOVED = "REMOVED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """One time of one schedule; those of a session's end have one for each time at which sessions end.

    `sessions` are those whose instruments are meant, None where all are.
    """

    id: str
    part: int
    user_id: str
    key_id: str
    kind: Kind
    wanted: dict[str, Any]
    sessions: tuple[Session, ...] | None
    waits_for: str | None  # an intent whose cancels must have ended first, if they end in time
    due_at: datetime
    late_by_s: int
    state: State
    detail: str | None
    intent_id: str | None
    matched: int | None
    created_at: datetime
    ended_at: datetime | None

    @property
    def key(self) -> str:
        """The idempotency key of what it does: the same however often, and from wherever, it is begun."""
        return f"schedule-{self.id}-{self.part}"

    def is_too_late(self, now: datetime) -> bool:
        return now > self.due_at + timedelta(seconds=self.late_by_s)


def a_schedule(
    kind: Kind,
    wanted: dict[str, Any],
    user_id: str,
    key_id: str,
    now: datetime,
    *,
    id_: str | None = None,
    part: int = 0,
    sessions: tuple[Session, ...] | None = None,
    due_at: datetime | None = None,
    late_by_s: int = LATE_BY_S,
    waits_for: str | None = None,
) -> Schedule:
    """A new one."""
    return Schedule(
        id=id_ or new_id(),
        part=part,
        user_id=user_id,
        key_id=key_id,
        kind=kind,
        wanted=wanted,
        sessions=sessions,
        waits_for=waits_for,
        due_at=due_at or now,
        late_by_s=late_by_s,
        state=State.PENDING,
        detail=None,
        intent_id=None,
        matched=None,
        created_at=now,
        ended_at=None,
    )


def rest_of(wanted: dict[str, Any], user_id: str, key_id: str, waits_for: str, now: datetime) -> Schedule:
    """What a square-off leaves to be done when the cancels of an intent have ended."""
    return a_schedule(Kind.SQUARE_OFF, wanted, user_id, key_id, now, waits_for=waits_for)


def times_of(
    wanted: ScheduledCancel, named: Iterable[Instrument] | None, now: datetime
) -> list[tuple[datetime, tuple[Session, ...] | None]]:
    """When to carry it out, and for the instruments of which sessions; several times where sessions end at several.

    Where a session's last minutes run already, that is now. Raises Malformed.

    Args:
        named: the instruments that can be meant, where they are known already.
    """
    if wanted.at is not None:
        return [(datetime.fromisoformat(wanted.at).astimezone(UTC), None)]
    before = timedelta(minutes=wanted.at_session_end or 0)
    due: dict[datetime, list[Session]] = {}
    for session in _sessions(wanted, named):
        due.setdefault(max(now, end_of_session(session, now) - before), []).append(session)
    if not due:
        raise Malformed((Fault("/atSessionEnd", "NO_SESSION_END", "its sessions are not known here: give a time"),))
    return [(at, tuple(due[at])) for at in sorted(due)]


def _sessions(wanted: ScheduledCancel, named: Iterable[Instrument] | None) -> Iterable[Session]:
    if named is not None:
        return sorted({session_of(instrument) for instrument in named if has_sessions(instrument)})
    segment = wanted.filter.segment if wanted.filter else None
    return (one for one in SESSIONS if segment is None or one[0] in EXCHANGES[segment])
