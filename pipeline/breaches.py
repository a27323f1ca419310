"""What must hold of every order at every moment, and what is found where it doesn't. Pure: one order's rows in, breaches out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

from domain.changes import ATTEMPTS_OF_A_SEQ
from domain.events import fold
from domain.ids import broker_tag
from domain.lifecycle import TERMINAL, UNSENT, OrderState, may_move
from domain.orders import Order
from store.verification import CommandRow, EventRow, Part

PATIENCE = timedelta(seconds=30)  # how long due work may wait, and an ended lease may stay
LETTER_PATIENCE = timedelta(seconds=60)
BUDGET_PATIENCE = timedelta(hours=1)  # of a modify or cancel: ten thousand at ten a second take a quarter of it

# Every check by its name: what holds where nothing is found.
CHECKS = {
    "NO_ORDER": "an accepted intent has its orders, and events belong to one",
    "NO_COMMAND": "every order has its command",
    "KEY_TWICE": "one idempotency key of a user is one intent",
    "GAP": "an order's events are numbered without a gap, up to its row's own number",
    "ILLEGAL_MOVE": "states move as the lifecycle allows, each event from where the one before ended",
    "FOLD": "folding an order's events gives its row",
    "BLOCK_ON_ENDED": "an order that has ended holds nothing of its account",
    "NO_BLOCK": "a live or unknown order holds what was blocked for it",
    "TOTALS": "an account's totals are the sums of its live orders",
    "SLICES": "a cut order is the sum of its slices",
    "TAG": "an order's tag is the one that follows from its id, and no other order has it",
    "TWICE_TAKEN": "no order was accepted twice under two numbers",
    "OVER_TRADED": "no more was traded of an order than it is for",
    "CHANGING": "an order counts its modifies and cancels that are under way, and each has its row",
    "ATTEMPT": "every call belongs to a command of its kind",
    "OVERDUE": "work that is due is done within 30 s; what waits for a broker's budget, by its last moment, a cancel within the hour",
    "LEASE_OVER": "a call whose lease has ended counts as unknown within 30 s",
    "ABANDONED": "an order that hasn't ended, and isn't at its broker, has a command that works on it",
    "NO_SEARCH": "an unknown order is looked for",
    "REPORT_WAITS": "what a broker said is applied within 60 s",
    "NO_LETTER": "a stuck order has its letter in its stage's dead-letter queue",
    "NO_ROW": "a letter in a dead-letter queue has its stuck order",
    "QUEUES_UNREAD": "the dead-letter queues can be read",
}


@dataclass(frozen=True, slots=True)
class Breach:
    """One thing that should not be: by which check, of which order, intent or account, and what is wrong with it."""

    check: str
    subject: str
    told: str


def breaches_of(part: Part) -> Iterator[Breach]:
    for order_id in sorted((part.events.keys() | part.commands.keys()) - part.orders.keys()):
        yield Breach("NO_ORDER", order_id, "there are events or commands of it, and no row")
    for order in part.orders.values():
        events = part.events.get(order.id, [])
        yield from _history(order, events)
        yield from _holding(order, events)
        yield from _tag(order, part)
        yield from _at_brokers(order, part)
        yield from _changing(order, part)
        yield from _work(order, part)


def _history(order: Order, events: Sequence[EventRow]) -> Iterator[Breach]:
    numbers = [seq for seq, *_ in events]
    if numbers != list(range(len(events))):
        missing = sorted(set(range(max(numbers, default=-1) + 1)) - set(numbers))
        yield Breach("GAP", order.id, f"event {', '.join(map(str, missing[:5])) or '0'} is missing")
        return
    if order.last_seq != len(events) - 1:
        yield Breach("GAP", order.id, f"the row is at event {order.last_seq}, the last one there is {len(events) - 1}")
    before: str | None = None
    for seq, _, prev_state, new_state, _ in events:
        if prev_state != before:
            yield Breach("ILLEGAL_MOVE", order.id, f"event {seq} begins in {prev_state}, the one before ended in {before}")
            return
        is_legal = new_state == "RECEIVED" if before is None else new_state == before or _may_move(before, new_state)
        if not is_legal:
            yield Breach("ILLEGAL_MOVE", order.id, f"event {seq} goes from {before} to {new_state}")
        before = new_state
    folded = fold(events)
    wrong = [
        f"{name} is {getattr(order, name)}, its events say {value}"
        for name, value in folded.items()
        if getattr(order, name) != value
    ]
    if wrong:
        yield Breach("FOLD", order.id, "; ".join(wrong))


def _may_move(before: str, after: str) -> bool:
    try:
        return may_move(OrderState(before), OrderState(after))
    except ValueError:
        return False


def _holding(order: Order, events: Sequence[EventRow]) -> Iterator[Breach]:
    if order.state in TERMINAL:
        if order.blocked_paise or order.exposure_paise:
            yield Breach(
                "BLOCK_ON_ENDED", order.id, f"{order.state}, and still holds {order.blocked_paise} paise of {order.account_id}"
            )
        return
    said = [detail["set"]["blocked_paise"] for *_, detail in events if "blocked_paise" in detail.get("set", {})]
    if said and said[-1] and not order.blocked_paise:
        yield Breach("NO_BLOCK", order.id, f"{order.state}, and holds nothing of the {said[-1]} paise blocked for it")
    if order.state not in UNSENT and order.account_id is None:
        yield Breach("NO_BLOCK", order.id, f"{order.state}, and belongs to no account")


def _tag(order: Order, part: Part) -> Iterator[Breach]:
    try:
        derived = broker_tag(order.broker_tag[:2], order.id)
    except ValueError:
        derived = None
    if order.broker_tag != derived:
        yield Breach("TAG", order.id, f"its tag is {order.broker_tag}, from its id follows {derived or 'another'}")
    if order.broker_tag in part.tags_seen_twice:
        yield Breach("TAG", order.id, f"another order has its tag {order.broker_tag}, too")


def _at_brokers(order: Order, part: Part) -> Iterator[Breach]:
    numbers = sorted(set(part.accepted.get(order.id, ())))
    if len(numbers) > 1:
        yield Breach("TWICE_TAKEN", order.id, f"it was accepted as {' and as '.join(numbers)}")
    traded = part.traded.get(order.id, 0)
    if traded > order.quantity:
        yield Breach("OVER_TRADED", order.id, f"{traded} were traded, it is for {order.quantity}")
    if order.is_parent:
        count, quantity, filled = part.slices.get(order.id, (0, 0, 0))
        if (count, quantity, filled) != (order.slices, order.quantity, order.filled_quantity):
            told = f"it has {order.slices} slices, is for {order.quantity}, filled {order.filled_quantity}"
            yield Breach("SLICES", order.id, f"{told}; there are {count}, for {quantity}, filled {filled}")


def _changing(order: Order, part: Part) -> Iterator[Breach]:
    commands, changes = part.commands.get(order.id, {}), part.changes.get(order.id, {})
    instructions = {seq: command for seq, command in commands.items() if seq > 0}
    undone = [seq for seq, command in instructions.items() if command.state != "DONE"]
    if order.changing != len(undone):
        yield Breach("CHANGING", order.id, f"it counts {order.changing} under way, there are {len(undone)}")
    if sorted(instructions) != list(range(1, len(instructions) + 1)):
        yield Breach("CHANGING", order.id, f"its instructions are numbered {', '.join(map(str, sorted(instructions)))}")
    for seq in sorted(instructions.keys() ^ changes.keys()):
        yield Breach("CHANGING", order.id, f"instruction {seq} has {'no row' if seq in instructions else 'no command'}")
    for seq in sorted(instructions.keys() & changes.keys()):
        if changes[seq] is not (instructions[seq].state == "DONE"):
            told = "its result" if changes[seq] else "no result"
            yield Breach("CHANGING", order.id, f"instruction {seq} is {instructions[seq].state}, and has {told}")
    for number, kind in part.attempts.get(order.id, ()):
        seq = number // ATTEMPTS_OF_A_SEQ
        of = commands[seq].kind if seq in commands else "nothing"
        if of != kind:
            yield Breach("ATTEMPT", order.id, f"attempt {number} is a {kind}, its command a {of}")


def _work(order: Order, part: Part) -> Iterator[Breach]:
    commands = part.commands.get(order.id, {})
    for command in commands.values():
        yield from _waits(order, command, part)
    place = commands.get(0)
    if place is None:
        yield Breach("NO_COMMAND", order.id, "it has no command that places it")
        return
    unfinished = order.state in UNSENT or order.state in (OrderState.SENDING, OrderState.UNKNOWN)
    if place.state == "DONE" and unfinished and not order.is_parent:
        yield Breach("ABANDONED", order.id, f"it is {order.state}, and its command is DONE")
    if place.state == "UNKNOWN" and order.id not in part.searched and place.due_at < part.at - LETTER_PATIENCE:
        yield Breach("NO_SEARCH", order.id, f"unknown since {_moment(place)}, and nobody looks for it")


def _waits(order: Order, command: CommandRow, part: Part) -> Iterator[Breach]:
    late = part.at - PATIENCE
    if command.state == "READY":
        limit = order.send_before if command.stage.startswith("dispatch.") else command.due_at
        if command.kind != "PLACE" and command.stage.startswith("dispatch."):
            limit = command.due_at + BUDGET_PATIENCE
        if max(command.due_at, limit) < late:
            yield Breach("OVERDUE", order.id, f"ready at {command.stage} since {_moment(command)}")
    elif command.state == "SENDING" and command.lease_until is not None and command.lease_until < late:
        yield Breach("LEASE_OVER", order.id, f"its lease ended at {command.lease_until.isoformat(timespec='seconds')}")
    elif command.state == "HELD" and command.due_at < late:
        yield Breach("OVERDUE", order.id, f"held at {command.stage} past its last moment, {_moment(command)}")
    elif command.state == "STUCK" and command.buried_at is None and command.due_at < part.at - LETTER_PATIENCE:
        yield Breach("NO_LETTER", order.id, f"stuck at {command.stage} since {_moment(command)}, and no letter was written")


def _moment(command: CommandRow) -> str:
    return command.due_at.isoformat(timespec="seconds")
