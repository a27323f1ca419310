"""Guards: inside the transaction that accepts, which of the signals are accepted, and which were there before.

The strategies are locked first, then each delivery is decided by what is written down of the ones before it, and is
written down itself; an accepted one together with its intent. Whoever dies in between leaves neither.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from domain.errors import CoordinatorError, NonceReused, NoSuchSignal, SignalsDisabled
from domain.guards import SignalStatus
from domain.intents import Acceptance, Submission
from domain.signals import SignalForm
from store import signals
from store.signals import Delivery, First
from store.unit import Unit

# What becomes of a submission beside an intent of its own.
Stopped = Acceptance | CoordinatorError


def hold(
    unit: Unit, guarded: Mapping[int, Submission], intent_ids: Mapping[int, str], now: datetime
) -> dict[int, Stopped]:
    """The submissions that don't become intents, by their numbers; the others are written down as accepted."""
    strategies = signals.lock(unit, {of.guard.strategy_id for of in guarded.values() if of.guard is not None})
    stopped: dict[int, Stopped] = {}
    for number, submission in guarded.items():
        guard = submission.guard
        if guard is None:
            continue
        strategy = strategies.get(guard.strategy_id)
        if strategy is None:
            stopped[number] = NoSuchSignal()
            continue
        form = SignalForm.model_validate(strategy.form)
        first = signals.first_of_nonce(unit, guard) if guard.nonce is not None else None
        if first is None and guard.nonce is None:
            first = signals.latest_of_order(unit, guard, now - timedelta(seconds=form.window_sec))
        refusal: CoordinatorError | None = None
        if not form.enabled:
            refusal = SignalsDisabled(strategy.name)
        elif first is not None and first.digest != guard.digest:
            refusal = NonceReused()
        signals.note(unit, _delivery(submission, intent_ids[number], first, refusal, now))
        if refusal is not None:
            stopped[number] = refusal
        elif first is not None:
            stopped[number] = Acceptance(first.intent_id, first.at, (), replayed=True)
    return stopped


def _delivery(
    submission: Submission, intent_id: str, first: First | None, refusal: CoordinatorError | None, now: datetime
) -> Delivery:
    guard = submission.guard
    assert guard is not None
    status, of_intent = SignalStatus.ACCEPTED, intent_id
    if first is not None:
        status = SignalStatus.SUPPRESSED if guard.nonce is None else SignalStatus.REPLAYED
        of_intent = first.intent_id
    (line,) = submission.request.orders
    return Delivery(
        id=guard.signal_id,
        strategy_id=guard.strategy_id,
        at=now,
        status=status if refusal is None else SignalStatus.REFUSED,
        digest=guard.digest,
        nonce=guard.nonce,
        intent_id=of_intent if refusal is None else None,
        wanted=line.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"correlation_id"}),
        reason_code=refusal.code if refusal is not None else None,
        reason=str(refusal) if refusal is not None else None,
    )
