"""The invariants: what must hold of record, books and queue once nothing is under way. Each is one named check.

A check gives a `Violation` for every order, account or key that breaks it. Numbers 1, 4, 5, 6, 7 and 9 need the record
alone; 2 and 3 compare it with the broker's own book; 10 with the dead letters. Number 8 is about the audit chain, which
the coordinator doesn't have yet: it is not checked, and `NOT_CHECKED` says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg
from psycopg.rows import dict_row

from domain.events import FOLDED, fold
from domain.ids import is_our_tag
from domain.lifecycle import AT_BROKER, TERMINAL, OrderState, may_move

Row = dict[str, Any]

WAITED_TOO_LONG = timedelta(seconds=30)
STATE_OF = {  # what the simulator's final words are in ours
    "complete": OrderState.FILLED,
    "cancelled": OrderState.CANCELLED,
    "rejected": OrderState.REJECTED,
    "cancelled after market order": OrderState.CANCELLED,
}
UNDECIDED = frozenset({"RECEIVED", "HELD", "SENDING", "UNKNOWN"})
NOT_CHECKED = {"audit chain": "there is no audit chain yet"}


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing that breaks an invariant."""

    invariant: str
    subject: str
    told: str

    def __str__(self) -> str:
        return f"{self.invariant}: {self.subject}: {self.told}"


@dataclass(slots=True)
class Scene:
    """Everything the checks look at, read at one moment."""

    now: datetime
    orders: dict[str, Row]
    commands: list[Row]
    events: dict[str, list[Row]]
    attempts: list[Row]
    changes: list[Row]
    accounts: list[Row]
    searches: set[str]
    intents: list[Row]
    reports_waiting: int
    book: Sequence[Mapping[str, Any]] = ()  # the broker's own: tag, state, filled
    acknowledged: Mapping[str, Collection[str]] = field(default_factory=dict)  # key → the intents it was answered with
    letters: Collection[str] = ()  # order ids of the dead letters in the queues
    installation: str = "OC"

    @property
    def busy(self) -> int:
        """Commands that are neither done nor an operator's, and reports that wait."""
        return sum(row["state"] not in ("DONE", "STUCK") for row in self.commands) + self.reports_waiting


def look(
    url: str,
    *,
    book: Sequence[Mapping[str, Any]] = (),
    acknowledged: Mapping[str, Collection[str]] | None = None,
    letters: Collection[str] = (),
) -> Scene:
    """The record as it stands at one moment, with what else is known."""
    with psycopg.connect(url, row_factory=dict_row) as connection:
        connection.execute("set transaction isolation level repeatable read")

        def rows(sql: str) -> list[Row]:
            return connection.execute(sql).fetchall()

        events: dict[str, list[Row]] = {}
        for event in rows("select * from order_events order by order_id, seq"):
            events.setdefault(str(event["order_id"]), []).append(event)
        return Scene(
            now=rows("select now() as now")[0]["now"],
            orders={str(row["id"]): row for row in rows("select * from orders")},
            commands=rows("select * from commands"),
            events=events,
            attempts=rows("select * from attempts"),
            changes=rows("select h.*, c.kind, c.state from changes h join commands c using (order_id, seq)"),
            accounts=rows("select * from accounts"),
            searches={str(row["order_id"]) for row in rows("select order_id from searches")},
            intents=rows("select * from intents"),
            reports_waiting=len(rows("select 1 as one from reports where applied_at is null")),
            book=book,
            acknowledged=acknowledged or {},
            letters=letters,
        )


def accepted_work_goes_on(scene: Scene) -> Iterator[tuple[str, str]]:
    """1. What was acknowledged has its orders and commands, and each command is due, or its order has come to an end."""
    known = {str(row["id"]): row for row in scene.intents}
    for key, intents in scene.acknowledged.items():
        for intent_id in intents:
            if intent_id not in known:
                yield key, f"intent {intent_id} was acknowledged, and is not in the record"
    commanded = {str(row["order_id"]) for row in scene.commands if row["seq"] == 0}
    for intent in scene.intents:
        for order_id in map(str, intent["order_ids"]):
            if order_id not in scene.orders:
                yield order_id, f"is an order of intent {intent['id']}, and is not in the record"
    for order_id in scene.orders.keys() - commanded:
        yield order_id, "has no command"
    for command in scene.commands:
        order_id = str(command["order_id"])
        if order_id not in scene.orders:
            yield order_id, "has a command, and no row"
            continue
        order = scene.orders[order_id]
        if command["state"] == "DONE" and command["seq"] == 0 and order["state"] in UNDECIDED and not order["slices"]:
            yield order_id, f"is {order['state']}, and its command is done"


def never_twice(scene: Scene) -> Iterator[tuple[str, str]]:
    """2. No tag of ours stands in the brokers' books more than once."""
    for tag, count in Counter(row["tag"] for row in scene.book).items():
        if count > 1 and is_our_tag(scene.installation, tag):
            yield str(tag), f"is {count} times at the brokers"


def book_and_record_agree(scene: Scene) -> Iterator[tuple[str, str]]:
    """3. What the record says is at a broker is there, in that state; what is there with a tag of ours is in the record."""
    book = {row["tag"]: row for row in scene.book}
    by_tag = {order["broker_tag"]: order for order in scene.orders.values()}
    for tag in book.keys() - by_tag.keys():
        if is_our_tag(scene.installation, tag):
            yield str(tag), "is at a broker, and nobody here knows it"
    may_have_left = {str(row["order_id"]) for row in scene.attempts if row["outcome"] != "NOT_SENT"}
    for tag, order in by_tag.items():
        row, state = book.get(tag), OrderState(order["state"])
        if order["slices"]:
            continue
        if row is None:
            if state in AT_BROKER | {OrderState.FILLED, OrderState.EXPIRED}:
                yield str(order["id"]), f"is {state} here, and no broker has it"
            continue
        if str(order["id"]) not in may_have_left:
            yield str(order["id"]), "is at a broker, and no attempt of ours can have reached one"
        there = STATE_OF.get(row["state"])
        if there is not None and state is not there:
            yield str(order["id"]), f"is {state} here and {there} at its broker"
        elif there is None and state not in AT_BROKER:
            yield str(order["id"]), f"is {state} here and {row['state']} at its broker"
        if row["filled"] != order["filled_quantity"]:
            yield str(order["id"]), f"has {order['filled_quantity']} filled here and {row['filled']} at its broker"


def events_in_line(scene: Scene) -> Iterator[tuple[str, str]]:
    """4. An order's events are numbered without a gap up to its row's, and each is a legal move from the one before."""
    for order_id in scene.events.keys() - scene.orders.keys():
        yield order_id, "has events, and no row"
    for order_id, order in scene.orders.items():
        events = scene.events.get(order_id, [])
        numbers = [event["seq"] for event in events]
        if numbers != list(range(len(numbers))):
            yield order_id, f"its events are numbered {numbers}"
        if order["last_seq"] != len(numbers) - 1:
            yield order_id, f"its row is at event {order['last_seq']}, and the last one is {len(numbers) - 1}"
        before = None
        for event in events:
            if event["prev_state"] != before:
                yield order_id, f"event {event['seq']} begins in {event['prev_state']}, the one before ended in {before}"
            after = event["new_state"]
            if before not in (None, after) and not may_move(OrderState(before), OrderState(after)):
                yield order_id, f"event {event['seq']} goes from {before} to {after}"
            before = after


def totals_are_sums(scene: Scene) -> Iterator[tuple[str, str]]:
    """5. Ended orders block nothing, and an account's totals are the sums of its live orders, UNKNOWN ones too."""
    for order_id, order in scene.orders.items():
        if order["state"] in TERMINAL and (order["blocked_paise"] or order["exposure_paise"]):
            yield order_id, f"is {order['state']}, and still blocks {order['blocked_paise']} paise"
        if order["state"] in (*AT_BROKER, "SENDING", "UNKNOWN") and not order["slices"] and not order["exposure_paise"]:
            yield order_id, f"is {order['state']}, and counts for nothing in its account"
    for account in scene.accounts:
        live = [
            order
            for order in scene.orders.values()
            if order["account_id"] == account["id"] and order["state"] not in TERMINAL and not order["slices"]
        ]
        told = (account["blocked_paise"], account["exposure_paise"], account["open_orders"])
        sums = (sum(o["blocked_paise"] for o in live), sum(o["exposure_paise"] for o in live), len(live))
        if told != sums:
            yield str(account["id"]), f"holds {told}, and its live orders come to {sums}"


def nothing_waits_for_ever(scene: Scene) -> Iterator[tuple[str, str]]:
    """6. No due work lies about, no lease is over without being UNKNOWN, and each UNKNOWN order is looked for."""
    for command in scene.commands:
        order_id, late = str(command["order_id"]), scene.now - WAITED_TOO_LONG
        if command["state"] == "READY" and command["due_at"] < late:
            yield order_id, f"is due at {command['stage']} since {command['due_at']:%H:%M:%S}, and nobody takes it"
        if command["state"] == "SENDING" and command["lease_until"] < late:
            yield order_id, f"its lease ended at {command['lease_until']:%H:%M:%S}, and it is still being sent"
        if command["state"] == "UNKNOWN" and order_id not in scene.searches:
            yield order_id, "is unknown, and nobody looks for it"
        if command["state"] == "STUCK":
            yield order_id, f"is stuck at {command['stage']}: {command['error']}"


def events_give_the_row(scene: Scene) -> Iterator[tuple[str, str]]:
    """7. Folding an order's events gives its row."""
    for order_id, order in scene.orders.items():
        told = [
            (event["seq"], event["event_type"], event["prev_state"], event["new_state"], event["detail"])
            for event in scene.events.get(order_id, [])
        ]
        try:
            folded = fold(told)
        except ValueError as error:
            yield order_id, str(error)
            continue
        wrong = [name for name in FOLDED if folded[name] != order[name]]
        if wrong:
            yield order_id, f"its events give another {', '.join(wrong)} than its row has"


def one_key_one_intent(scene: Scene) -> Iterator[tuple[str, str]]:
    """9. A key stands for one intent, in the record and in every answer that was given."""
    counts = Counter((str(row["user_id"]), row["idempotency_key"]) for row in scene.intents)
    for (_, key), count in counts.items():
        if count > 1:
            yield key, f"stands for {count} intents"
    for key, intents in scene.acknowledged.items():
        if len(set(intents)) > 1:
            yield key, f"was answered with {sorted(set(intents))}"


def dead_letters_are_stuck(scene: Scene) -> Iterator[tuple[str, str]]:
    """10. Whatever lies in a dead-letter queue is STUCK in the record."""
    stuck = {str(row["order_id"]) for row in scene.commands if row["state"] == "STUCK"}
    for letter in scene.letters:
        if letter not in stuck:
            yield letter, "is a dead letter, and not stuck"


def changes_are_told_truly(scene: Scene) -> Iterator[tuple[str, str]]:
    """11. What a modify or a cancel was told is what its order came to, at the broker too; and none is forgotten."""
    book = {row["tag"]: row for row in scene.book}
    under_way = Counter(str(row["order_id"]) for row in scene.changes if row["state"] != "DONE")
    for order_id, order in scene.orders.items():
        if order["changing"] != under_way[order_id]:
            yield order_id, f"counts {order['changing']} changes under way, and has {under_way[order_id]}"
        shown = book.get(order["broker_tag"])
        if order["modifies"] and shown is not None:
            ours, theirs = (order["quantity"], order["price"]), (shown["quantity"], Decimal(shown["price"]))
            if ours != theirs:
                yield order_id, f"was modified, and is {ours[0]} at {ours[1]} here, {theirs[0]} at {theirs[1]} at its broker"
    for change in scene.changes:
        order_id = str(change["order_id"])
        if (change["state"] == "DONE") is not (change["result"] is not None):
            yield order_id, f"its {change['kind']} is {change['state']}, and what came of it {change['result']}"
        elif change["result"] in ("CANCELLED", "FILLED") and scene.orders[order_id]["state"] != change["result"]:
            yield order_id, f"its {change['kind']} was told {change['result']}, and it is {scene.orders[order_id]['state']}"


Check = Callable[[Scene], Iterator[tuple[str, str]]]
CHECKS: dict[str, Check] = {
    "accepted work goes on": accepted_work_goes_on,
    "never twice": never_twice,
    "book and record agree": book_and_record_agree,
    "events in line": events_in_line,
    "totals are sums": totals_are_sums,
    "nothing waits for ever": nothing_waits_for_ever,
    "events give the row": events_give_the_row,
    "one key, one intent": one_key_one_intent,
    "dead letters are stuck": dead_letters_are_stuck,
    "changes are told truly": changes_are_told_truly,
}


def find_violations(scene: Scene) -> list[Violation]:
    return [
        Violation(name, subject, told) for name, check in CHECKS.items() for subject, told in check(scene)
    ]
