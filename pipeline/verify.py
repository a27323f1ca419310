"""The verifier: what must hold of the record, looked for on a live system, some orders at a time.

Each part is one short snapshot, so that what moves meanwhile is no false alarm, and nothing is kept but what is wrong.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime

import pika.exceptions

from domain.lifecycle import TERMINAL
from pipeline import letters
from pipeline.breaches import Breach, breaches_of
from pipeline.chain import all_stages
from pipeline.desk import Desk
from store import verification
from store.verification import FIRST_ID, LAST_ID, snapshot

log = logging.getLogger(__name__)

PART = 500  # orders, or intents, in one snapshot
KEPT_MAX = 1_000  # breaches that are kept to be told; the others are counted
REPORT_PATIENCE_S = 60.0
SECOND_LOOK_S = 2.0  # a letter may be on its way, in either direction


@dataclass(slots=True)
class Verified:
    """How far the verifier has come, and what it has found."""

    orders: int = 0
    intents: int = 0
    breaches: list[Breach] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, found: Iterable[Breach]) -> None:
        for breach in found:
            self.counts[breach.check] += 1
            if len(self.breaches) < KEPT_MAX:
                self.breaches.append(breach)

    @property
    def seen(self) -> int:
        return self.orders + self.intents


def verify(
    desk: Desk, *, since: datetime | None = None, queues: bool = True, told: Callable[[Verified], None] = lambda _: None
) -> Verified:
    """Look at all orders, or at those accepted `since`; at all accounts, and with `queues` at all dead letters."""
    verified = Verified()
    start = FIRST_ID if since is None else first_id_at(since)
    for found in (_intents(desk, start, verified), _orders(desk, start, verified)):
        for breaches in found:
            verified.add(breaches)
            told(verified)
    verified.add(_totals(desk))
    verified.add(_reports(desk))
    if queues:
        verified.add(_letters(desk))
    return verified


def first_id_at(moment: datetime) -> str:
    """The smallest id that was made at that moment: a version-7 id begins with its time in milliseconds."""
    stamp = f"{int(moment.timestamp() * 1000):012x}"
    return f"{stamp[:8]}-{stamp[8:]}-0000-0000-000000000000"


def expected(desk: Desk) -> int:
    """About how many orders and intents there are to look at."""
    with desk.store.unit() as unit:
        return verification.rows_about(unit)


def _intents(desk: Desk, start: str, verified: Verified) -> Iterator[list[Breach]]:
    after: str | None = start
    while after is not None:
        with snapshot(desk.store) as unit:
            part = verification.read_intents(unit, after, PART)
        verified.intents += len(part.order_ids)
        found = []
        for intent_id, order_ids in part.order_ids.items():
            if not order_ids and intent_id in part.that_place:
                found.append(Breach("NO_ORDER", intent_id, "an intent without any order"))
            for order_id in order_ids:
                if order_id in part.without_order:
                    found.append(Breach("NO_ORDER", intent_id, f"its order {order_id} has no row"))
                if order_id in part.without_command:
                    found.append(Breach("NO_COMMAND", intent_id, f"its order {order_id} has no command"))
        found += [Breach("KEY_TWICE", one, f"intent {other} has its key, too") for one, other in part.sharing_a_key]
        after = part.last_id
        yield found


def _orders(desk: Desk, start: str, verified: Verified) -> Iterator[list[Breach]]:
    after: str | None = start
    while after is not None:
        with snapshot(desk.store) as unit:
            part = verification.read_part(unit, after, PART)
        verified.orders += len(part.orders)
        after = part.last_id
        yield list(breaches_of(part))


def _totals(desk: Desk) -> Iterator[Breach]:
    names = ("blocked paise", "exposure paise", "open orders")
    with snapshot(desk.store) as unit:
        wrong = verification.wrong_totals(unit, sorted(TERMINAL))
    for account_id, ours, sums in wrong:
        told = [
            f"{name} {own}, its live orders {total}" for name, own, total in zip(names, ours, sums, strict=True) if own != total
        ]
        yield Breach("TOTALS", account_id, "; ".join(told))


def _reports(desk: Desk) -> Iterator[Breach]:
    with desk.store.unit() as unit:
        waiting = verification.waiting_reports(unit, REPORT_PATIENCE_S)
    for order_id, at in waiting:
        yield Breach("REPORT_WAITS", order_id, f"a report of {at.isoformat(timespec='seconds')} isn't applied")


def _letters(desk: Desk) -> Iterator[Breach]:
    """What both of two looks find: between an act and its letter's end, and for who else reads, a moment passes."""
    stages = all_stages(tuple(sorted(desk.adapters)))
    try:
        first = {breach for stage in stages for breach in _letters_at(desk, stage)}
        if first:
            threading.Event().wait(SECOND_LOOK_S)
            yield from sorted(
                first & {breach for stage in stages for breach in _letters_at(desk, stage)},
                key=lambda breach: (breach.check, breach.subject),
            )
    except (pika.exceptions.AMQPError, OSError) as error:
        yield Breach("QUEUES_UNREAD", "RabbitMQ", str(error) or type(error).__name__)


def _letters_at(desk: Desk, stage: str) -> Iterator[Breach]:
    there: set[letters.Key] = set()
    for part in letters.read(desk, stage):
        for key, is_true in part:
            if key is not None and is_true:
                there.add(key)
            else:
                whose = key[0] if key is not None else "a message"
                yield Breach("NO_ROW", whose, f"it lies in the dead letters of {stage}, and isn't stuck there")
    after = FIRST_ID
    while after != LAST_ID:
        with desk.store.unit() as unit:
            stuck = verification.buried(unit, stage, after, PART)
        for key in stuck:
            if key not in there:
                yield Breach("NO_LETTER", key[0], f"stuck at {stage}, and its letter is gone")
        after = stuck[-1][0] if len(stuck) == PART else LAST_ID
