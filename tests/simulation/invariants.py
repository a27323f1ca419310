"""What must hold, each by its name: of every unit as it commits, at any moment, and when all is over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from brokers.limits import IST_US, SECOND_US
from domain.commands import CommandState
from domain.events import Event, EventType, Source, fold
from domain.evidence import book_day
from domain.groups import GroupPolicy, holds
from domain.lifecycle import AT_BROKER, TERMINAL, UNSENT, OrderState, may_move

if TYPE_CHECKING:
    from .broker import Entry
    from .record.unit import Unit
    from .world import World

# What may end the not knowing: the book, an answer that came late, what the book proves, a named operator.
EVIDENCE = frozenset(
    {Source.POLL, Source.POSTBACK, Source.STREAM, Source.EVIDENCE, Source.LATE_ANSWER, Source.BROKER_ANSWER, Source.OPERATOR}
)


_BLOCKS = frozenset({EventType.RECEIVED, EventType.CLEARED, EventType.RELEASED})  # where an order may be cut


class Broken(BaseException):
    """A promise is broken. Not an Exception, so that no code under test can take it for one of its own."""

    def __init__(self, name: str, told: str) -> None:
        super().__init__(f"{name}: {told}")
        self.name, self.told = name, told


# ---- of a unit, just before it commits


def of_a_unit(world: World, unit: Unit) -> None:
    for (table, _), row in unit.writes.items():
        if table == "events" and row is not None:
            _of_an_event(world, unit, row)
    for (table, key), row in unit.writes.items():
        if table == "orders" and row is not None:
            before = world.record.tables["orders"].get(key)
            appended = sum(t == "events" and k[0] == key for t, k in unit.writes)
            if before is not None and row["last_seq"] - before["last_seq"] != appended:
                raise Broken("events and row move together", f"{key}: {appended} events, {before['last_seq']} to {row['last_seq']}")


def _of_an_event(world: World, unit: Unit, event: Event) -> None:
    world.note("event", event.order_id[-6:], event.seq, str(event.event_type), str(event.new_state), str(event.source))
    before = event.prev_state
    if event.seq and unit.get("events", (event.order_id, event.seq - 1)) is None:
        raise Broken("events have no gap", f"{event.order_id}: {event.seq} follows nothing")
    if before is not None and event.new_state is not before and not may_move(before, event.new_state):
        raise Broken("only legal moves", f"{event.order_id}: {before} to {event.new_state}")
    leaves = before is OrderState.UNKNOWN and event.new_state is not before
    if leaves and event.source not in EVIDENCE and not _is_parent(unit, event.order_id):
        raise Broken("unknown is left by evidence", f"{event.order_id}: {event.event_type} by {event.source}")
    may_change = event.new_state in TERMINAL or event.event_type in _BLOCKS
    if "blocked_paise" in event.detail.get("set", ()) and not may_change:
        raise Broken("what lives keeps its block", f"{event.order_id}: {event.event_type} changes what it holds")
    if event.event_type in (EventType.RELEASED, EventType.SENDING):
        _of_a_group(unit, event)
    if event.event_type is EventType.PROVEN_ABSENT and world.plan.checks_absence:
        tag = unit.get("orders", event.order_id)["broker_tag"]
        if any(request.is_taken for request in world.requests.get(tag, ())):
            raise Broken("proven absent is absent", f"{event.order_id}, {tag}, was taken")


def _of_a_group(unit: Unit, event: Event) -> None:
    """What is let go, or is sent, may be: its leg is filled, the line before it was taken, or all lines were ready."""
    order = unit.get("orders", event.order_id)
    if order["policy"] is None or not holds(order["policy"], order["line"], order["after"]):
        return
    if event.event_type is EventType.SENDING:
        line = order["parent_id"] or order["id"]
        if not any(e.event_type is EventType.RELEASED for (id_, _), e in unit.scan("events") if id_ == line):
            raise Broken("what is held is not sent", f"{event.order_id} by {event.source}")
        return
    group = [row for _, row in unit.scan("orders") if row["intent_id"] == order["intent_id"]]
    lines = {row["correlation_id"]: row for row in group if row["parent_id"] is None}
    if order["after"] is not None and lines[order["after"]]["state"] is not OrderState.FILLED:
        raise Broken("a leg is filled first", f"{event.order_id} goes, {order['after']} is {lines[order['after']]['state']}")
    if order["policy"] is GroupPolicy.FAIL_FAST:
        parts = [row for row in group if row["line"] == order["line"] - 1 and not row["slices"]]
        if any(row["broker_order_id"] is None or row["state"] is OrderState.REJECTED for row in parts):
            raise Broken("one after another", f"{event.order_id} goes, the line before it wasn't taken")
    if order["policy"] is GroupPolicy.ALL_OR_NONE and order["after"] is None:
        released = {key[0] for key, e in unit.scan("events") if e.event_type is EventType.RELEASED}
        roots = {row["id"] for row in lines.values() if row["after"] is None}
        if not roots <= released:
            raise Broken("all or none", f"{event.order_id} goes alone")


# ---- at any moment


def at_a_moment(world: World) -> None:
    _sums(world)
    _once(world)


def _sums(world: World) -> None:
    """An account's totals are the sums of its live orders, and never over its limit."""
    orders = world.record.tables["orders"]
    for account_id, row in world.record.tables["accounts"].items():
        own = [order for order in orders.values() if order["account_id"] == account_id]
        live = [order for order in own if order["state"] not in TERMINAL and not order["slices"]]
        summed = {
            "blocked_paise": sum(order["blocked_paise"] for order in own),
            "exposure_paise": sum(order["exposure_paise"] for order in own),
            "open_orders": len(live),
        }
        told = {name: row[name] for name in summed}
        if told != summed:
            raise Broken("totals are sums", f"{account_id} says {told}, its orders {summed}")
        if row["blocked_paise"] > row["limit_paise"]:
            raise Broken("margin is within its limit", f"{account_id} blocks {row['blocked_paise']} of {row['limit_paise']}")
    for order in orders.values():
        holds = order["blocked_paise"] or order["exposure_paise"]
        if order["state"] in TERMINAL and holds:
            raise Broken("what ended holds nothing", f"{order['id']} is {order['state']} and holds {holds}")


def _once(world: World) -> None:
    """No order is taken twice, unless a broker made two of one."""
    for tag, requests in world.requests.items():
        taken = [request.fate for request in requests if request.is_taken]
        if len(taken) > 1:
            raise Broken("nothing is sent twice", f"{tag} was taken {len(taken)} times: {', '.join(taken)}")


# ---- when all is over


def is_settled(world: World) -> bool:
    """Whether nothing more will happen by itself."""
    tables = world.record.tables
    if any(row["applied_at"] is None for row in tables["reports"].values()):
        return False
    if any(not entry.is_over and not _day_is_over(world, entry) for entry in entries(world)):
        return False
    if tables["claims"] or tables["group_marks"]:
        return False
    # What a broker took after midnight of a call before it stands in the new day's book, and is still to be read.
    shown = {entry.tag for entry in entries(world) if entry.lives_or_filled and not _day_is_over(world, entry)}
    if any(order["broker_order_id"] is None and order["broker_tag"] in shown for order in tables["orders"].values()):
        return False
    for order in tables["orders"].values():
        command = tables["commands"][order["id"], 0]
        if command.state is CommandState.STUCK:
            if (order["id"], 0) not in tables["buried"]:
                return False
            continue
        if order["state"] not in TERMINAL and not _rests(world, order):
            return False
        if command.state is not CommandState.DONE and command.state is not CommandState.UNKNOWN:
            return False
    return True


def at_the_end(world: World) -> None:
    at_a_moment(world)
    _folds(world)
    _promises(world)
    _ends(world)
    _books(world)
    _twins(world)
    _windows(world)
    _groups(world)


def _groups(world: World) -> None:
    """What was rejected for its group was never sent, and no mark is left."""
    events = world.record.tables["events"]
    sent = {order_id for (order_id, _), event in events.items() if event.event_type is EventType.SENDING}
    for order in world.record.tables["orders"].values():
        if order["reason_code"] == "GROUP_REJECTED" and order["id"] in sent:
            raise Broken("what ends with its group was not sent", f"{order['id']}: {order['reason']}")
    if marks := world.record.tables["group_marks"]:
        raise Broken("every mark is looked at", f"{marks}")


def _folds(world: World) -> None:
    by_order: dict[str, list[Event]] = {}
    for (order_id, _), event in sorted(world.record.tables["events"].items(), key=lambda entry: entry[0]):
        by_order.setdefault(order_id, []).append(event)
    for order_id, row in world.record.tables["orders"].items():
        told = [(e.seq, e.event_type, e.prev_state, e.new_state, e.detail) for e in by_order.get(order_id, [])]
        try:
            folded = fold(told)
        except ValueError as error:
            raise Broken("events have no gap", f"{order_id}: {error}") from error
        differ = {name: (value, row[name]) for name, value in folded.items() if value != row[name]}
        if differ:
            raise Broken("folding the events gives the row", f"{order_id}: (folded, row) of {differ}")
    if strangers := by_order.keys() - world.record.tables["orders"].keys():
        raise Broken("folding the events gives the row", f"events of no order: {strangers}")


def _promises(world: World) -> None:
    """What a client was told is there, once, and told alike each time."""
    orders, intents = world.record.tables["orders"], world.record.tables["intents"]
    for key, answers in world.client.answers.items():
        told = {(answer.intent_id, answer.lines) for answer in answers}
        if len(told) > 1:
            raise Broken("one key, one intent", f"{key} was told {told}")
    for submission in world.client.submissions:
        acceptance = world.client.promised.get(submission.idempotency_key)
        if acceptance is None:
            raise Broken("every request is answered", submission.idempotency_key)
        if len(acceptance.lines) != len(submission.request.orders):
            raise Broken("nothing accepted is lost", f"{acceptance} has not all lines")
        for line in acceptance.lines:
            if line.order_id not in orders:
                raise Broken("nothing accepted is lost", f"{line.order_id} of {submission.idempotency_key}")
    known = {id_ for intent in intents.values() for id_ in intent.order_ids}
    for order in orders.values():
        if order["parent_id"] is None and order["id"] not in known:
            raise Broken("one key, one intent", f"order {order['id']} is of no intent")


def _ends(world: World) -> None:
    """Every order has ended, or is UNKNOWN and looked for, or STUCK and told."""
    tables = world.record.tables
    for order in tables["orders"].values():
        command = tables["commands"][order["id"], 0]
        told = f"{order['id']} is {order['state']} at {command.stage}, {command.state}: {command.error}"
        if command.state is CommandState.STUCK:
            if (order["id"], 0) not in tables["buried"]:
                raise Broken("what is stuck is told", told)
        elif order["state"] in TERMINAL or (order["state"] in AT_BROKER | {OrderState.UNKNOWN} and _rests(world, order)):
            if command.state not in (CommandState.DONE, CommandState.UNKNOWN):
                raise Broken("every order ends", told)
        else:
            raise Broken("every order ends", told)
    if tables["claims"]:
        raise Broken("claims are closed", f"{tables['claims']}")
    if world.record.holders:
        raise Broken("locks are freed", f"{list(world.record.holders)}")


def _rests(world: World, order: dict[str, Any]) -> bool:
    """Nobody can tell more of it: its book's day is over; or it is an order whose slices rest, or are stuck."""
    tables = world.record.tables
    if order["slices"]:
        parts = [row for row in tables["orders"].values() if row["parent_id"] == order["id"]]
        return any(row["state"] not in TERMINAL for row in parts) and all(
            row["state"] in TERMINAL
            or tables["commands"][row["id"], 0].state is CommandState.STUCK
            or _rests(world, row)
            for row in parts
        )
    today = book_day(world.clock())
    if order["state"] is OrderState.UNKNOWN:
        search = tables["searches"].get(order["id"])
        return search is not None and book_day(search["search"].asked_at) != today
    shown = [entry for entry in entries(world) if entry.id == order["broker_order_id"]]
    return order["state"] in AT_BROKER and all(book_day(entry.taken_at) != today for entry in shown)


def _books(world: World) -> None:
    """What a broker took is known, with what of it was filled; and what the record follows, a broker took."""
    orders = world.record.tables["orders"]
    by_tag = {order["broker_tag"]: order for order in orders.values()}
    strays = world.record.tables["strays"]
    taken: dict[str, list[Entry]] = {}
    for entry in entries(world):
        taken.setdefault(entry.tag, []).append(entry)
    for tag, group in taken.items():
        order = by_tag.get(tag)
        if order is None:
            raise Broken("what a broker has is known", f"{tag} is of no order")
        if any(_day_is_over(world, entry) for entry in group) or _is_stuck(world, order):
            continue
        for entry in group:
            is_stray = (entry.account_id, entry.id) in strays
            if order["broker_order_id"] != entry.id:
                if not is_stray and entry.lives_or_filled and not _may_be_missed(group):
                    raise Broken("what a broker has is known", f"{entry.id} with {tag} of {order['id']}")
            elif order["filled_quantity"] != entry.filled or order["state"] is not entry.state:
                differs = f"{order['state']}, {order['filled_quantity']} filled; the book: {entry.state}, {entry.filled}"
                raise Broken("the record ends as the book", f"{order['id']} is {differs}")
    for order in orders.values():
        if order["broker_order_id"] is not None and order["broker_tag"] not in taken:
            raise Broken("the record invents nothing", f"{order['id']} has {order['broker_order_id']}, and no book has it")
        if order["state"] in UNSENT | {OrderState.UNKNOWN} and order["filled_quantity"]:
            raise Broken("the record invents nothing", f"{order['id']} is {order['state']} and filled")


def _twins(world: World) -> None:
    """Where a broker made two of one, both are told."""
    by_tag: dict[str, list[Entry]] = {}
    for entry in entries(world):
        if entry.lives_or_filled and not _day_is_over(world, entry):
            by_tag.setdefault(entry.tag, []).append(entry)
    strays = {row["stray"].tag for row in world.record.tables["strays"].values()}
    for tag, group in by_tag.items():
        if len(group) > 1 and tag not in strays and not _may_be_missed(group):
            raise Broken("a twin is told", f"{tag}: {[entry.id for entry in group]}")


def _may_be_missed(group: list[Entry]) -> bool:
    """Where a broker made two of one, and the books of an account in which nothing lives were read no more.

    It is the reconciler, who isn't here, that finds a twin which shows after its order has ended. A reader may also
    die with what it has read.
    """
    return any(entry.is_double for entry in group) and min(entry.times_shown for entry in group) < 3


def _windows(world: World) -> None:
    """The limiter grants no more than its windows; and in calm weather no broker sees more than its own."""
    for (broker, kind), budget in world.budgets.items():
        for account_id, granted in budget.granted.items():
            for room in budget.rooms:
                most = _most([(at, count) for at, count in granted], room.seconds)
                if most > room.all:
                    raise Broken("the limiter keeps its windows", f"{broker} {kind} {account_id}: {most} in {room}")
    if not world.plan.is_calm:
        return
    begins = int(world.plan.begins.timestamp())
    for seen in world.brokers.values():
        for window in seen.capabilities.order_windows:
            for account_id, arrivals in seen.arrivals.items():
                counts: dict[int, int] = {}
                for at in arrivals:
                    which = int(begins + at) // window.seconds
                    counts[which] = counts.get(which, 0) + 1
                if max(counts.values()) > window.count:
                    raise Broken("no broker sees too much", f"{seen.name} {account_id}: {counts} in {window}")


def _most(granted: list[tuple[int, int]], seconds: int) -> int:
    if seconds == 1:
        return max(
            (sum(count for at, count in granted if begin <= at < begin + SECOND_US) for begin, _ in granted), default=0
        )
    counts: dict[int, int] = {}
    for at, count in granted:
        which = (at + IST_US) // (seconds * SECOND_US)
        counts[which] = counts.get(which, 0) + count
    return max(counts.values(), default=0)


def entries(world: World) -> list[Entry]:
    return [entry for broker in world.brokers.values() for entry in broker.entries]


def _day_is_over(world: World, entry: Entry) -> bool:
    return book_day(entry.taken_at) != book_day(world.clock())


def _is_stuck(world: World, order: dict[str, Any]) -> bool:
    return world.record.tables["commands"][order["id"], 0].state is CommandState.STUCK


def _is_parent(unit: Unit, order_id: str) -> bool:
    return bool(unit.get("orders", order_id)["slices"])
