"""Accepting cancels: one transaction that marks every order that is meant and gives each a command of its own.

Nothing is cancelled here. From the commit on no stage sends what is marked; the `cancel` stage (`pipeline/changes.py`)
takes care of the rest. A cancel asks no admission: it passes however much work waits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from domain.cancels import (
    FAIL_FAST_MAX,
    IDS_MAX,
    URGED_BY,
    Answered,
    AtOnce,
    CancelAcceptance,
    CancelMode,
    CancelPolicy,
    CancelRequest,
    CancelSubmission,
    acceptance_from,
    check,
    is_urged,
)
from domain.commands import CommandKind
from domain.errors import Fault, Malformed, NotFound, SoftCancelDisabled, StoreAway
from domain.events import Event, EventType
from domain.ids import new_id
from domain.lifecycle import TERMINAL
from domain.settings import Settings
from pipeline.accepting import Anew, kept_under, with_tries
from pipeline.chain import FIRST, soft_cancel_stage
from pipeline.crash import crash
from pipeline.desk import Desk
from store import cancels, changes, intents, orders
from store.cancels import Match, Target, UnderWay
from store.unit import Unit

CHUNK = 1_000  # orders that one statement locks or marks
TRIES = 5


@dataclass(frozen=True, slots=True)
class Matching:
    """What a request would cancel, a page of it, and the id that the next page begins after."""

    matched: int
    orders: list[Match]
    last: str | None


def matching(
    unit: Unit, user_id: str, request: CancelRequest, *, limit: int = 100, after: str | None = None
) -> Matching:
    """The user's live orders that a request means and that nobody cancels yet, by their ids; nothing is marked or sent.

    Raises Malformed.
    """
    check(request)
    if request.filter is not None:
        matched, page = cancels.page_of(unit, user_id, request.filter, limit=limit + 1, after=after)
    else:
        matched, page = cancels.page_of_ids(unit, user_id, request.order_ids or (), limit=limit + 1, after=after)
    shown = page[:limit]
    return Matching(matched, shown, shown[-1].order_id if len(page) > limit else None)


def accept(desk: Desk, submission: CancelSubmission) -> CancelAcceptance:
    """The durable acceptance, or the one given before under the same key.

    Raises Malformed, NotFound, SoftCancelDisabled, KeyReused, KeySpent, or StoreAway, after which the same key is safe to use again.
    """
    check(submission.request)
    written = with_tries(lambda: _written(desk, submission), tries=TRIES, busy="the database is busy")
    if written is None:
        return _kept(desk, submission)
    stage = FIRST[CommandKind.CANCEL]
    desk.wakeups.wake(stage, since=written.accepted_at)  # a large one commits long after its commands fell due
    return written


def _written(desk: Desk, submission: CancelSubmission) -> CancelAcceptance | None:
    settings = desk.settings()
    with desk.store.unit() as unit:
        written = _write_down(unit, settings, desk.now(), submission)
        crash("cancelling.before_commit")
    crash("cancelling.after_commit")
    return written


def _write_down(unit: Unit, settings: Settings, at: datetime, submission: CancelSubmission) -> CancelAcceptance | None:
    """Everything of it in the caller's transaction; None where the key is known."""
    request, intent_id = submission.request, new_id()
    new = intents.NewIntent(
        id=intent_id,
        user_id=submission.user_id,
        key_id=submission.key_id,
        kind=CommandKind.CANCEL,
        idempotency_key=submission.idempotency_key,
        fingerprint=submission.fingerprint,
        order_ids=(),  # its lines are its changes
        accepted_at=at,
        window_until=at + timedelta(seconds=settings.idempotency_window_s),
    )
    if not intents.insert(unit, [new]):
        return None
    if request.mode is CancelMode.SOFT and not settings.async_cancel_enabled:
        raise SoftCancelDisabled("soft cancels are switched off here; ask for a HARD one")
    policy = request.policy or CancelPolicy(settings.cancel_policy)
    if request.filter is not None:
        order_ids: Sequence[str] = cancels.meant(unit, submission.user_id, request.filter)
    else:
        order_ids = request.order_ids or ()
    _refuse_too_many(request, policy, len(order_ids))
    held, slices = _lock_all(unit, submission.user_id, order_ids)
    if submission.must_be_there and not held:
        raise NotFound("order", order_ids[0])
    under_way = cancels.under_way(unit, [order_id for order_id, target in held.items() if target.changing])
    answered = {line.line: line for line in _answers(order_ids, held, under_way, policy)}
    lines = {order_id: line for line, order_id in enumerate(order_ids) if line not in answered}
    again = {line.order_id: line.line for line in answered.values() if line.code is AtOnce.ALREADY_CANCELLING}
    for order_id, line in [*lines.items(), *again.items()]:
        for part in slices.get(order_id, ()):  # an order's live slices carry its line
            if part in under_way:
                again.setdefault(part, line)
            elif order_id in lines and part in held and held[part].state not in TERMINAL:
                lines.setdefault(part, line)
    asked = _Asked(submission, intent_id, policy, at)
    _mark(unit, asked, {order_id: held[order_id] for order_id in lines}, lines)
    _hurry(unit, asked, held, {order_id: (under_way[order_id], line) for order_id, line in again.items()})
    acceptance = CancelAcceptance(
        intent_id, at, len(order_ids) - len(answered), tuple(answered[line] for line in sorted(answered))
    )
    intents.keep_answer(unit, intent_id, acceptance.to_json())
    return acceptance


def _refuse_too_many(request: CancelRequest, policy: CancelPolicy, count: int) -> None:
    if policy is CancelPolicy.FAIL_FAST and count > FAIL_FAST_MAX:
        detail = f"{count} orders are meant, and FAIL_FAST takes at most {FAIL_FAST_MAX}: ask for BEST_EFFORT"
        raise Malformed((Fault("/policy", "TOO_MANY", detail),))
    if count > IDS_MAX:
        detail = f"{count} orders are meant, and one request takes at most {IDS_MAX}: narrow the filter"
        raise Malformed((Fault("/filter", "TOO_MANY", detail),))


def _lock_all(
    unit: Unit, user_id: str, order_ids: Sequence[str]
) -> tuple[dict[str, Target], dict[str, list[str]]]:
    """The orders with the slices of those that are parents, locked as everybody locks them: parents last."""
    slices: dict[str, list[str]] = {}
    for chunk in _chunks(order_ids):
        slices |= cancels.slices_of(unit, user_id, chunk)
    held: dict[str, Target] = {}
    for chunk in _chunks(sorted({*order_ids, *(part for parts in slices.values() for part in parts)})):
        held |= cancels.lock(unit, user_id, chunk, parents=False)
    rest = sorted(set(order_ids) - held.keys())
    for chunk in _chunks(rest):
        if any(part not in held for parts in cancels.slices_of(unit, user_id, chunk).values() for part in parts):
            raise Anew("an order was just cut into slices, which are locked before it")
    for chunk in _chunks(rest):
        held |= cancels.lock(unit, user_id, chunk, parents=True)
    return held, slices


def _answers(
    order_ids: Sequence[str], held: Mapping[str, Target], under_way: Mapping[str, UnderWay], policy: CancelPolicy
) -> Iterator[Answered]:
    """The lines that need no work, and what they are told."""
    has_failed = False
    for line, order_id in enumerate(order_ids):
        target = held.get(order_id)
        answer: Answered | None = None
        if has_failed:
            answer = Answered(line, order_id, AtOnce.SKIPPED, target.state if target else None)
        elif target is None:
            answer = Answered(line, order_id, AtOnce.NOT_FOUND)
        elif target.state in TERMINAL:
            answer = Answered(line, order_id, AtOnce.ALREADY_ENDED, target.state)
        elif order_id in under_way:
            by = under_way[order_id].intent_id
            answer = Answered(line, order_id, AtOnce.ALREADY_CANCELLING, target.state, by)
        if answer is not None:
            has_failed = has_failed or (policy is CancelPolicy.FAIL_FAST and answer.is_failure)
            yield answer


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request and when it came, for what is written down of its orders."""

    submission: CancelSubmission
    intent_id: str
    policy: CancelPolicy
    at: datetime

    @property
    def wanted(self) -> dict[str, Any]:
        wanted: dict[str, Any] = {"mode": self.submission.request.mode, "policy": self.policy}
        wanted |= {"code": self.submission.code} if self.submission.code else {}
        return wanted | ({"reason": self.submission.reason} if self.submission.reason else {})

    def event(self, target: Target, **because: Any) -> Event:
        seq, state = target.last_seq + 1, target.state
        detail = {"intent": self.intent_id, **because, **self.wanted}
        return Event(
            target.id, seq, EventType.CANCEL_REQUESTED, state, state, self.submission.source, self.at, detail
        )


def _mark(unit: Unit, asked: _Asked, held: Mapping[str, Target], lines: Mapping[str, int]) -> None:
    """Each order's flag, its event, its command and its change."""
    for chunk in _chunks(sorted(held)):
        told = [asked.event(held[order_id]) for order_id in chunk]
        entries = [(order_id, lines[order_id], asked.wanted, asked.at) for order_id in chunk]
        with unit.together():
            cancels.mark(unit, chunk, asked.at)
            orders.append_events(unit, told)
            changes.insert(unit, CommandKind.CANCEL, FIRST[CommandKind.CANCEL], asked.intent_id, entries, asked.at)


def _hurry(
    unit: Unit, asked: _Asked, held: Mapping[str, Target], again: Mapping[str, tuple[UnderWay, int]]
) -> None:
    """The cancels under way that would keep this request waiting go at once, whatever their own intents said.

    They stay the only cancels of their orders. `again`: those under way, with the line that asks for their order now.
    """
    mode = asked.submission.request.mode
    urged = {id_ for id_, (one, line) in again.items() if is_urged(one.wanted, mode, asked.policy, line)}
    stuck = {id_ for id_, (one, _) in again.items() if one.is_stuck}
    first, soft = FIRST[CommandKind.CANCEL], soft_cancel_stage("%")
    for chunk in _chunks(sorted(urged | stuck)):
        told = [asked.event(held[order_id], hurries=again[order_id][0].intent_id) for order_id in chunk]
        now = [(order_id, again[order_id][0]) for order_id in chunk if order_id in urged]
        entries = [(order_id, one.seq, {**one.wanted, URGED_BY: asked.intent_id}) for order_id, one in now]
        with unit.together():
            cancels.note(unit, chunk, asked.at)
            orders.append_events(unit, told)
            cancels.want(unit, entries)
            cancels.take_up(unit, chunk, first, soft, asked.at)
    if stuck and any(one.is_stuck for one in cancels.under_way(unit, sorted(stuck)).values()):
        raise Anew("an operator is at work on a stuck cancel")


def _kept(desk: Desk, submission: CancelSubmission) -> CancelAcceptance:
    """What the key stands for already."""
    user_id, key = submission.user_id, submission.idempotency_key
    with desk.store.unit() as unit:
        kept = kept_under(unit, user_id, key, submission.fingerprint, desk.now(), tells="matched")
    if kept is None:
        raise StoreAway("another request with this key was just given up; send it again")
    return acceptance_from(kept.intent_id, kept.accepted_at, kept.answer)


def _chunks(order_ids: Sequence[str]) -> Iterator[Sequence[str]]:
    return (order_ids[start : start + CHUNK] for start in range(0, len(order_ids), CHUNK))
