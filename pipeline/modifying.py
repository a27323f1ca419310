"""Accepting modifies: one transaction under the order's lock that checks, writes down and gives the modify its command.

Nothing is judged by number or limit here: that is the `modify` stage's (`pipeline/modifying_stage.py`).
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from domain.commands import CommandKind
from domain.errors import NotFound, NotModifiable, StaleVersion, StoreAway
from domain.ids import new_id
from domain.modifies import ModifyAcceptance, ModifySubmission, changed_terms, modifiability
from domain.orders import Order
from pipeline.accepting import kept_under, with_tries
from pipeline.chain import FIRST
from pipeline.crash import crash
from pipeline.desk import Desk
from store import changes, intents, orders
from store.unit import Unit

TRIES = 3


def accept(desk: Desk, submission: ModifySubmission) -> ModifyAcceptance:
    """The durable acceptance, or the one given before under the same key, whatever the order's version is by now.

    Raises NotFound, StaleVersion, NotModifiable, KeyReused, KeySpent, or StoreAway, after which the same key is safe to
    use again.
    """
    acceptance = with_tries(lambda: _written(desk, submission), tries=TRIES, busy="the database is busy")
    if not acceptance.replayed:
        desk.wakeups.wake(FIRST[CommandKind.MODIFY])
    return acceptance


def _written(desk: Desk, submission: ModifySubmission) -> ModifyAcceptance:
    with desk.store.unit() as unit:
        acceptance = _write_down(unit, desk, submission, desk.now())
        crash("modifying.before_commit")
    crash("modifying.after_commit")
    return acceptance


def _write_down(unit: Unit, desk: Desk, submission: ModifySubmission, at: datetime) -> ModifyAcceptance:
    if (kept := _kept(unit, submission, at)) is not None:
        return kept
    order = _locked(unit, submission)
    if (kept := _kept(unit, submission, at)) is not None:  # stored while this one waited for the lock
        return kept
    if order.version != submission.if_match_version:
        raise StaleVersion(order.id, expected=submission.if_match_version, found=order.version, current=order)
    terms = changed_terms(order, submission.request.terms)
    adapter = desk.adapters.get(order.broker or "")
    able = adapter.capabilities if adapter is not None else None
    under_way = order.changing > 0 and order.id in changes.modifies_under_way(unit, [order.id])
    if (why := modifiability(order, able, under_way=under_way, terms=terms)) is not None:
        raise NotModifiable(order.id, why=why[0], words=why[1], current=order)
    intent_id = new_id()
    new = intents.NewIntent(
        id=intent_id,
        user_id=submission.user_id,
        key_id=submission.key_id,
        kind=CommandKind.MODIFY,
        idempotency_key=submission.idempotency_key,
        fingerprint=submission.fingerprint,
        order_ids=(order.id,),
        accepted_at=at,
        window_until=at + timedelta(seconds=desk.settings().idempotency_window_s),
    )
    if not intents.insert(unit, [new]):
        raise StoreAway("another request with this key was stored a moment ago; send it again")
    wanted: dict[str, Any] = {**terms, "base_version": order.version}
    changes.insert(unit, CommandKind.MODIFY, FIRST[CommandKind.MODIFY], intent_id, [(order.id, 0, wanted, at)], at)
    seq = changes.newest_seq(unit, order.id)
    intents.keep_answer(unit, intent_id, {"orderId": order.id, "seq": seq})
    order.changing += 1
    orders.save(unit, [order], ("changing",), at)
    return ModifyAcceptance(intent_id, at, order.id, seq)


def _kept(unit: Unit, submission: ModifySubmission, at: datetime) -> ModifyAcceptance | None:
    """What the key stands for already."""
    key, fingerprint = submission.idempotency_key, submission.fingerprint
    kept = kept_under(unit, submission.user_id, key, fingerprint, at, tells="orderId")
    if kept is None:
        return None
    return ModifyAcceptance(
        kept.intent_id, kept.accepted_at, kept.answer["orderId"], kept.answer["seq"], replayed=True
    )


def _locked(unit: Unit, submission: ModifySubmission) -> Order:
    try:
        order_id = str(UUID(submission.order_id))
    except ValueError:
        raise NotFound("order", submission.order_id) from None
    order = orders.lock(unit, [order_id]).get(order_id)
    if order is None or order.user_id != submission.user_id:
        raise NotFound("order", submission.order_id)
    return order
