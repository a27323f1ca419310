"""Square-off: one intent with the orders that close positions, decided under the accounts' locks.

What orders on the other side may still take is left to them, those of an earlier square-off among them: whoever asks
twice, with two keys or from two processes, closes a position once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from domain.accounts import Account
from domain.cancels import IDS_MAX, CancelPolicy, CancelRequest, CancelSubmission
from domain.commands import CommandKind
from domain.errors import Fault, KeyReused, KeySpent, Malformed, NotFound, StoreAway
from domain.instruments import Instrument
from domain.intents import OrderLine, PlaceRequest, Submission
from domain.market import IST, trading_day
from domain.orders import OrderType
from domain.schedules import rest_of
from domain.settings import Settings
from domain.squareoff import POSITIONS, Closing, Left, SquareOff, closings
from pipeline import cancelling
from pipeline.accepting import with_tries
from pipeline.chain import FIRST
from pipeline.crash import crash
from pipeline.desk import Desk
from pipeline.drafting import make_orders, received
from store import accounts, acts, commands, intents, orders, positions, schedules, switches
from store.acts import Once
from store.unit import Unit

_KEPT = ("intent_id", "orders", "left", "cancel_intent_id", "schedule_id")
TRIES = 2  # of three seconds each: whoever decides on the same accounts has them for a moment
LIVE_FOR = timedelta(days=7)  # no order lives longer: what ended unseen is found by the reconciler within a day


@dataclass(frozen=True, slots=True)
class Asked:
    """Who asks to close positions, with which key, and under which idempotency key."""

    user_id: str
    key_id: str
    idempotency_key: str
    fingerprint: bytes


@dataclass(frozen=True, slots=True)
class SquaredOff:
    """What was decided. Without an intent nothing is to be closed, or nothing was to be done; no key is used up then.

    `orders` are documents: with their ids, unless nothing was stored. Where open orders are cancelled first, that is
    `cancel_intent_id`, and `schedule_id` closes what they leave.
    """

    intent_id: str | None
    orders: Sequence[Mapping[str, Any]]
    left: Sequence[Mapping[str, Any]]
    cancel_intent_id: str | None = None
    schedule_id: str | None = None
    replayed: bool = False


def accept(desk: Desk, asked: Asked, wanted: SquareOff, *, closing: bool = False) -> SquaredOff:
    """Write down the orders that close what is wanted; the same answer to the same key.

    With `cancel_open` the open orders in the same instruments are cancelled as well. What they may still take is closed
    by a schedule (`pipeline/firing.py`) when their cancels have ended.

    `closing`: it belongs to a halt, which lets its orders through as far as they make a position smaller.

    Raises:
        Malformed: it isn't said what is meant; or more open orders are to be cancelled than one request takes.
        NotFound: an account or broker of which the user has none.
        KeyReused, KeySpent: as for a placement.
        StoreAway: the same key is safe to use again.
    """
    wanted.check()
    meant = _meant(desk, asked.user_id, wanted)
    wanted = _by_its_key(wanted, desk.instruments())
    once = Once(asked.user_id, asked.idempotency_key, asked.fingerprint)
    cancel_intent_id = _cancel_open(desk, asked, wanted, once) if wanted.cancel_open and not wanted.dry_run else None
    answer = with_tries(
        lambda: _written(desk, asked, wanted, meant, once, cancel_intent_id, closing=closing),
        tries=TRIES,
        busy="the database is busy; try again",
    )
    if answer.intent_id is not None and not answer.replayed:
        desk.wakeups.wake(FIRST[CommandKind.PLACE])
    return answer


def _written(
    desk: Desk,
    asked: Asked,
    wanted: SquareOff,
    meant: Mapping[str, Account],
    once: Once,
    cancel_intent_id: str | None,
    *,
    closing: bool,
) -> SquaredOff:
    """All of it but the cancels, in one transaction."""
    now, settings = desk.now(), desk.settings()
    with desk.store.unit() as unit:
        if cancel_intent_id is not None and (kept := acts.begin(unit, once, now, claims=False)) is not None:
            return SquaredOff(**kept, replayed=True)
        if not wanted.dry_run:
            accounts.lock(unit, sorted(meant))
            if (earlier := _kept(unit, asked, now)) is not None:
                return earlier
        made, left = _decide(unit, desk, asked.user_id, meant, wanted, settings, now)
        answer = SquaredOff(None, [_document(closing) for closing in made], [_left(one) for one in left])
        if made and not wanted.dry_run:
            answer = _write(unit, desk, asked, wanted, made, left, settings, now)
        if closing and answer.intent_id is not None:
            switches.mark_closing(unit, answer.intent_id)
        if cancel_intent_id is not None:
            answer = _with_rest(unit, asked, wanted, answer, cancel_intent_id, once, now)
        crash("squareoff.before_commit")
    crash("squareoff.after_commit")
    return answer


def _cancel_open(desk: Desk, asked: Asked, wanted: SquareOff, once: Once) -> str | None:
    """Ask for the cancels under a key of their own; the intent that does so, None where there is none to cancel."""
    with desk.store.unit() as unit:
        if (kept := acts.find(unit, once)) is not None:
            return str(kept["cancel_intent_id"])
        if intents.known(unit, [(asked.user_id, asked.idempotency_key)]):
            return None  # there was none to cancel: what is open now may be what it has placed itself
    order_ids = places(desk, asked.user_id, wanted)
    if not order_ids:
        return None
    if len(order_ids) > IDS_MAX:
        detail = f"{len(order_ids)} open orders are to be cancelled, and one request takes at most {IDS_MAX}: narrow the filter"
        raise Malformed((Fault("/filter", "TOO_MANY", detail),))
    name = f"squareoff cancel {hashlib.sha256(asked.idempotency_key.encode()).hexdigest()}"
    submission = CancelSubmission(
        user_id=asked.user_id,
        key_id=asked.key_id,
        idempotency_key=name,
        fingerprint=hashlib.sha256(name.encode() + asked.fingerprint).digest(),
        request=CancelRequest(order_ids=tuple(order_ids), policy=CancelPolicy.BEST_EFFORT),
        reason="cancelled to close its position",
    )
    try:
        return cancelling.accept(desk, submission).intent_id
    except KeySpent as spent:  # before a crash
        return spent.intent_id


def _with_rest(
    unit: Unit, asked: Asked, wanted: SquareOff, answer: SquaredOff, cancel_intent_id: str, once: Once, now: datetime
) -> SquaredOff:
    """Have what the cancels leave closed after them, and keep the answer: it may be that no intent does."""
    if answer.intent_id is None and not acts.claim(unit, once, now):
        raise StoreAway("another request with this key was just written down; send it again")
    rest = rest_of(
        wanted.model_copy(update={"cancel_open": False}).model_dump(mode="json", by_alias=True, exclude_none=True),
        asked.user_id, asked.key_id, cancel_intent_id, now,
    )  # fmt: skip
    schedules.insert(unit, [rest])
    answer = replace(answer, cancel_intent_id=cancel_intent_id, schedule_id=rest.id)
    acts.keep(unit, once, {name: getattr(answer, name) for name in _KEPT})
    return answer


def places(desk: Desk, user_id: str, wanted: SquareOff) -> list[str]:
    """The open orders in the instruments of the positions that are wanted: what `cancel_open` means."""
    meant = _meant(desk, user_id, wanted)
    wanted = _by_its_key(wanted, desk.instruments())
    now, settings = desk.now(), desk.settings()
    with desk.store.unit() as unit:
        made, left = _decide(unit, desk, user_id, meant, wanted, settings, now)
        found = {(one.account_id, one.instrument.key, one.product) for one in made}
        found |= {(one.account_id, one.instrument, one.product) for one in left}
        return positions.open_orders(unit, user_id, sorted(found), now - LIVE_FOR) if found else []


def _meant(desk: Desk, user_id: str, wanted: SquareOff) -> dict[str, Account]:
    """The user's accounts that the filter leaves."""
    broker = wanted.filter.broker and wanted.filter.broker.lower()
    owned = desk.directory().of_user.get(user_id, ())
    named = [one for one in owned if wanted.filter.account in (None, one.id)]
    if wanted.filter.account is not None and not named:
        raise NotFound("account", wanted.filter.account)
    meant = {one.id: one for one in named if broker in (None, one.broker)}
    if broker is not None and not meant:
        raise NotFound("account at the broker", broker)
    return meant


def _by_its_key(wanted: SquareOff, instruments: Mapping[str, Instrument]) -> SquareOff:
    """The filter with the contract that an alias stands for today."""
    named = instruments.get(wanted.filter.instrument or "")
    if named is None or named.key == wanted.filter.instrument:
        return wanted
    return wanted.model_copy(update={"filter": wanted.filter.model_copy(update={"instrument": named.key})})


def _decide(
    unit: Unit,
    desk: Desk,
    user_id: str,
    meant: Mapping[str, Account],
    wanted: SquareOff,
    settings: Settings,
    now: datetime,
) -> tuple[list[Closing], list[Left]]:
    instruments = desk.instruments()
    today = datetime.combine(trading_day(now), time(), IST).astimezone(UTC)
    products = POSITIONS if wanted.filter.product is None else {wanted.filter.product}
    under_way = positions.under_way(unit, user_id, list(meant), now - LIVE_FOR, today, products)
    # An order that wasn't judged yet may go by an alias.
    by_key = [
        replace(order, instrument=instruments[order.instrument].key) if order.instrument in instruments else order
        for order in under_way
    ]
    traded = positions.traded(unit, user_id, list(meant), today, products, wanted.filter.instrument)
    brokers = {account.id: account.broker for account in meant.values()}
    return closings(traded, by_key, brokers, instruments, wanted, settings)


def _kept(unit: Unit, asked: Asked, now: datetime) -> SquaredOff | None:
    """What the key stands for already."""
    kept = intents.find(unit, asked.user_id, asked.idempotency_key, now)
    if kept is None:
        return None
    if kept.fingerprint != asked.fingerprint:
        raise KeyReused("this Idempotency-Key came with another request before; use a new key")
    if not kept.live:
        raise KeySpent(kept.acceptance.intent_id)
    answer = intents.answer_of(unit, kept.acceptance.intent_id) or {}
    return SquaredOff(kept.acceptance.intent_id, answer.get("orders", ()), answer.get("left", ()), replayed=True)


def _write(
    unit: Unit,
    desk: Desk,
    asked: Asked,
    wanted: SquareOff,
    made: Sequence[Closing],
    left: Sequence[Left],
    settings: Settings,
    now: datetime,
) -> SquaredOff:
    lines = tuple(_line(number, closing, wanted) for number, closing in enumerate(made))
    request = PlaceRequest(orders=lines, max_unsent_sec=wanted.max_unsent_sec)
    submission = Submission(asked.user_id, asked.key_id, asked.idempotency_key, asked.fingerprint, request)
    send_before = now + timedelta(seconds=wanted.max_unsent_sec or settings.max_unsent_s)
    drafts = make_orders(desk.environment.installation, submission, now, send_before)
    intent_id = drafts[0].intent_id
    intent = intents.NewIntent(
        id=intent_id,
        user_id=asked.user_id,
        key_id=asked.key_id,
        kind=CommandKind.PLACE,
        idempotency_key=asked.idempotency_key,
        fingerprint=asked.fingerprint,
        order_ids=tuple(order.id for order in drafts),
        accepted_at=now,
        window_until=now + timedelta(seconds=settings.idempotency_window_s),
    )
    if not intents.insert(unit, [intent]):
        raise StoreAway("another request with this key was just written down; send it again")
    orders.insert(unit, drafts, now)
    commands.insert_placements(unit, [order.id for order in drafts], FIRST[CommandKind.PLACE], now)
    orders.append_events(unit, [received(order, line) for order, line in zip(drafts, lines, strict=True)])
    documents = [
        {"line": order.line, "correlationId": order.correlation_id, "orderId": order.id, "state": "RECEIVED"}
        | _document(closing)
        for order, closing in zip(drafts, made, strict=True)
    ]
    told = [_left(one) for one in left]
    intents.keep_answer(unit, intent_id, {"orders": documents, "left": told})
    return SquaredOff(intent_id, documents, told)


def _line(number: int, closing: Closing, wanted: SquareOff) -> OrderLine:
    return OrderLine(
        correlation_id=f"close-{number + 1}",
        instrument=closing.instrument.key,
        side=closing.side,
        quantity=closing.quantity,
        product=closing.product,
        order_type=OrderType(wanted.order_type),
        price=closing.price,
        market_protection=wanted.market_protection,
        account=closing.account_id,
        strategy=wanted.filter.strategy,
    )


def _document(closing: Closing) -> dict[str, Any]:
    return {
        "account": closing.account_id,
        "instrument": closing.instrument.key,
        "product": closing.product.value,
        "side": closing.side.value,
        "quantity": closing.quantity,
        "price": None if closing.price is None else _in_words(closing.price),
    }


def _left(one: Left) -> dict[str, Any]:
    return {
        "account": one.account_id,
        "instrument": one.instrument,
        "product": one.product.value,
        "quantity": one.quantity,
        "why": one.why.value,
    }


def _in_words(price: Decimal) -> str:
    """With two decimals, or four where it has them."""
    return f"{price:.4f}".removesuffix("00")
