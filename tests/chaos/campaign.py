"""One campaign: load, faults one after another, peace, and the judgement."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from tests.chaos.allowance import Allowance
from tests.chaos.bed import PROVEN_S, Bed, until
from tests.chaos.cluster import LEADER, Cluster
from tests.chaos.invariants import Scene, Violation, find_violations, look
from tests.chaos.letters import dead_letters
from tests.chaos.load import Load
from tests.chaos.plan import Fault, Kind
from tests.chaos.recovery import Recovery, recoveries

BURST_LINES = 4  # for each of the four accounts, right before a death
POINT_WITHIN_S = 12.0  # a point that nobody passes in this time is counted as not reached
SETTLED_WITHIN_S = 3 * PROVEN_S + 60.0  # what was proven absent late is sent once more
STARTED_AGAIN_S = 90.0

Told = Callable[[str], None]


@dataclass(slots=True)
class Done:
    """A fault that has happened."""

    fault: Fault
    at: datetime
    back_s: float | None  # until it was ready again; None where nobody had to be waited for


@dataclass(slots=True)
class Result:
    """What came of a campaign."""

    seed: str
    seconds: float = 0.0
    done: list[Done] = field(default_factory=list)
    not_reached: Counter[str] = field(default_factory=Counter)
    violations: list[Violation] = field(default_factory=list)
    recoveries: list[Recovery] = field(default_factory=list)
    states: Counter[str] = field(default_factory=Counter)
    figures: dict[str, Any] = field(default_factory=dict)

    @property
    def kills(self) -> int:
        return sum(done.fault.kind is Kind.KILL for done in self.done)

    @property
    def points(self) -> Counter[str]:
        return Counter(done.fault.point for done in self.done if done.fault.kind is Kind.POINT)

    @property
    def is_sound(self) -> bool:
        return not self.violations


def run(
    bed: Bed,
    plan: Sequence[Fault],
    *,
    seed: str,
    per_s: float,
    told: Told,
    ends_at: float | None = None,
    cluster: Cluster | None = None,
) -> Result:
    """Go through the plan, as far as time allows, then judge. `ends_at` is on the monotonic clock."""
    began, result = time.monotonic(), Result(seed)
    load = Load(bed.stack.base_url, bed.key, seed, per_s=per_s)
    bed.make_hostile()
    load.start()
    allowance = Allowance(datetime.now(UTC))
    for number, fault in enumerate(plan, 1):
        if rest_s := allowance.rest_s(datetime.now(UTC)):
            told(f"the brokers' allowance is used up, and so there is a rest of {rest_s / 60:.0f} minutes")
            load.rest()
            time.sleep(rest_s)
            load.go_on()
            ends_at = None if ends_at is None else ends_at + rest_s
        if ends_at is not None and time.monotonic() > ends_at:
            told(f"the time is over after {number - 1} of {len(plan)} faults")
            break
        done = strike(bed, load, fault, cluster)
        if done is None:
            result.not_reached[fault.point] += 1
            told(f"{_place(number, len(plan), began)}  {fault}: nobody got there")
            continue
        result.done.append(done)
        back = "" if done.back_s is None else f", back after {done.back_s:.1f} s"
        told(f"{_place(number, len(plan), began)}  {fault}{back}; {load.lines} orders asked for")
        time.sleep(fault.gap_s)
    load.stop()
    bed.make_peaceful()
    told("the faults are over; waiting until everything is settled")
    judge(bed, load, result)
    result.seconds = time.monotonic() - began
    return result


def strike(bed: Bed, load: Load, fault: Fault, cluster: Cluster | None = None) -> Done | None:
    """One fault, with orders in flight; None where a crash point wasn't reached."""
    if fault.target == LEADER and cluster is not None:
        return _kill_leader(load, fault, cluster)
    bed.wait_ready(fault.target, STARTED_AGAIN_S)
    load.burst(BURST_LINES)
    time.sleep(fault.after_s)
    is_server = fault.target in bed.servers
    match fault.kind:
        case Kind.KILL:
            at = datetime.now(UTC)
            bed.stack.kill(fault.target)
            return Done(fault, at, bed.wait_ready(fault.target, STARTED_AGAIN_S))
        case Kind.PAUSE:
            at = datetime.now(UTC)
            bed.pause(fault.target, fault.seconds)
            return Done(fault, at, None)
        case Kind.STOP if is_server:
            at = datetime.now(UTC)
            bed.stack.stop_service(fault.target)
            time.sleep(min(3.0, fault.seconds))
            bed.stack.start_service(fault.target)
            return Done(fault, at, (datetime.now(UTC) - at).total_seconds())
        case Kind.STOP:
            at = datetime.now(UTC)
            bed.stack.restart(fault.target)
            return Done(fault, at, (datetime.now(UTC) - at).total_seconds())
        case _:
            return _die_at_point(bed, fault)


def _kill_leader(load: Load, fault: Fault, cluster: Cluster) -> Done:
    """Whatever was drawn for the queue's leader, it dies: the two others have to choose a new one."""
    cluster.wait_ready()
    load.burst(BURST_LINES)
    at = datetime.now(UTC)
    cluster.kill_leader()
    cluster.wait_ready()
    return Done(replace(fault, kind=Kind.KILL), at, (datetime.now(UTC) - at).total_seconds())


def _die_at_point(bed: Bed, fault: Fault) -> Done | None:
    bed.arm(fault.target, fault.point)
    if until(lambda: not bed.is_armed(fault.target), within_s=POINT_WITHIN_S, every_s=0.02) is False:
        bed.disarm(fault.target)
        return None
    at = datetime.now(UTC)
    # A web worker is replaced by its own master; everybody else by the supervisor.
    if fault.target != "web":
        until(lambda: not bed.stack.supervisor.is_ready(fault.target), within_s=5.0, every_s=0.02)
    return Done(fault, at, bed.wait_ready(fault.target, STARTED_AGAIN_S))


def judge(bed: Bed, load: Load, result: Result) -> None:
    """Wait until all is settled and the books agree, for so long and no longer, then look at everything."""
    for name in bed.names():
        bed.wait_ready(name, STARTED_AGAIN_S)

    def scene() -> Scene:
        letters = dead_letters(bed.stack.queue_url)
        # The record is read before the book: an order may still be on its way from the one to the other.
        return look(bed.record, book=bed.book(), acknowledged=load.acknowledged, letters=letters)

    def settled() -> bool:
        seen = scene()
        return not seen.busy and not find_violations(seen)

    until(settled, within_s=SETTLED_WITHIN_S, every_s=2.0)
    seen = scene()
    result.violations = find_violations(seen)
    result.violations += [Violation("accepted work goes on", key, told) for key, told in load.wrong]
    result.violations += [
        Violation("nothing waits for ever", str(row["order_id"]), f"is {row['state']} at {row['stage']}, long after peace")
        for row in seen.commands
        if row["state"] not in ("DONE", "STUCK")
    ]
    if told := bed.verify():
        result.violations.append(Violation("coordinator verify", "the record", told))
    result.recoveries = recoveries(seen, result.done)
    result.states = Counter(str(order["state"]) for order in seen.orders.values() if not order["slices"])
    events = Counter(event["event_type"] for events in seen.events.values() for event in events)
    ours = {order["broker_tag"] for order in seen.orders.values()}
    result.figures = {
        "intents": len(seen.intents),
        "orders": len(seen.orders),
        "calls": len({str(row["call_id"]) for row in seen.attempts}),
        "at the brokers": len(bed.book()),
        "doubled": sum(violation.invariant == "never twice" for violation in result.violations),
        "lost": len(ours - {row["tag"] for row in seen.book} & _at_broker(seen)),
        "unknown for a while": events["UNKNOWN"],
        "proven absent": events["PROVEN_ABSENT"],
        "not sent": events["NOT_SENT"],
        **{f"asked to {what}": count for what, count in sorted(load.changes.asked.items())},
        **Counter(f"told {row['kind'].lower()}: {row['result']}" for row in seen.changes),
        "stuck": sum(row["state"] == "STUCK" for row in seen.commands),
        "requests without an answer": load.unanswered,
        "replays": load.replayed,
        "longest until an answer, s": round(load.worst_s, 1),
    }


def _at_broker(seen: Scene) -> set[str]:
    """Tags of orders that the record has as taken by a broker."""
    return {
        str(order["broker_tag"])
        for order in seen.orders.values()
        if order["state"] not in ("REJECTED", "RECEIVED", "HELD") and not order["slices"]
        and order["reason_code"] != "CANCELLED_UNSENT"
    }


def _place(number: int, total: int, began: float) -> str:
    minutes, seconds = divmod(int(time.monotonic() - began), 60)
    return f"[{number:>3}/{total}  {minutes:02}:{seconds:02}]"
