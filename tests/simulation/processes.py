"""The processes: each wired as `pipeline/worker.py`, `ops/clock.py` and the door wire them, with the world below."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from brokers.base import Session
from domain.errors import StoreAway
from domain.instruments import Instrument, Kind, Segment
from domain.intents import Acceptance, Submission
from domain.orders import Order
from domain.settings import Settings
from domain.verdicts import Verdict
from pipeline.books import BookReader
from pipeline.chain import GROUPS, OUTCOME, dispatch_stage, reports_stage
from pipeline.desk import Desk, Environment
from pipeline.groups import Groups
from pipeline.intake import Intake, _Waiting
from pipeline.intake_group import Facts, IntakeGroup, Step
from pipeline.pace import Pace
from pipeline.reports import apply_due
from pipeline.stage import PACE_S, Engine
from pipeline.stages.dispatch import Dispatcher
from pipeline.stages.persist import OutcomeGroup
from pipeline.steps import STEPS
from pipeline.sweep import Sweep

from .loop import Died, Process
from .plan import Plan
from .queue import Consumer, Handler, Wakeups
from .record.unit import Store

if TYPE_CHECKING:
    from .world import World

SWEEP_EVERY_S = 1.0
QUIET_SWEEP_EVERY_S = 3.0  # when nothing is to be found by it any more than by the next one
INSTRUMENTS = {
    "NSE:INFY": Instrument(
        key="NSE:INFY", exchange="NSE", symbol="INFY", segment=Segment.CASH, kind=Kind.EQUITY, name="Infosys",
        series="EQ", isin="INE009A01021", token=1594, lot_size=1, tick=Decimal("0.05"), freeze_quantity=100,
        band_percent=None, close=Decimal("1500.00"),
    )
}  # fmt: skip


def roles(plan: Plan) -> Iterator[tuple[str, str]]:
    """(name, role) of every process."""
    yield from (("door-1", "door"), ("door-2", "door"), ("intake-1", "intake"), ("intake-2", "intake"))
    yield from (("outcome-1", "outcome"), ("outcome-2", "outcome"))
    if plan.sweeps:
        yield "clock", "clock"
    for broker in plan.brokers:
        for number in range(plan.dispatchers):
            yield f"dispatch-{broker}-{number + 1}", f"dispatch {broker}"


def start(world: World, name: str, role: str) -> None:
    """A process of that role, with nothing in its memory."""
    process = Process(name, role)
    world.processes.append(process)
    desk = SimulatedDesk(world, process)
    kind, _, broker = role.partition(" ")
    if kind == "door":
        world.doors[process] = Door(desk)
        return
    if kind == "clock":
        world.loop.spawn(process, lambda: sweep_for_ever(world, desk))
        return
    if kind == "intake":
        consumer = Consumer(process, intake_handlers(world, desk), threads=2)
    elif kind == "outcome":
        consumer = Consumer(process, outcome_handlers(desk), threads=2)
    else:
        consumer = Consumer(process, dispatch_handlers(world, desk, broker), threads=3)
    world.queue.join(consumer)


class SimulatedDesk(Desk):
    """A desk whose record, queue, brokers and clock are the world's."""

    def __init__(self, world: World, process: Process) -> None:
        super().__init__(
            environment=Environment("", "", "", "", "OC"),
            store=Store(world.record),  # type: ignore[arg-type]
            wakeups=Wakeups(world, process),  # type: ignore[arg-type]
            redis=_NoRedis(),  # type: ignore[arg-type]
            adapters=world.brokers,  # type: ignore[arg-type]
            claim_store=Store(world.record),  # type: ignore[arg-type]
        )
        self._world = world

    def now(self) -> datetime:
        return self._world.clock()

    def settings(self) -> Settings:
        return self._world.settings

    def instruments(self) -> Mapping[str, Instrument]:
        return INSTRUMENTS

    def session(self, account_id: str) -> Session:
        return Session(account_id, self.directory().by_id[account_id].broker, "", "", "", "SIM")


class Door(Intake):
    """The real intake, without its thread: the request's own writes down what waits."""

    def __init__(self, desk: Desk) -> None:
        self._desk, self._admission = desk, None

    def accept(self, submission: Submission) -> Acceptance:
        answer: Future[Acceptance] = Future()
        self._accept([_Waiting(submission, answer)])
        return answer.result(0)


def sweep_for_ever(world: World, desk: Desk) -> None:
    sweep = Sweep(desk)
    while True:
        try:
            sweep.run()
        except StoreAway:
            world.note("no sweep")
        world.loop.sleep(QUIET_SWEEP_EVERY_S if world.is_quiet else SWEEP_EVERY_S)


def intake_handlers(world: World, desk: Desk) -> dict[str, Handler]:
    group = IntakeGroup(desk, tuple(_fallible(world, step) for step in STEPS))
    return {**{stage: _engine_handler(desk, group, stage) for stage in group.policies}, GROUPS: Groups(desk).run}


def outcome_handlers(desk: Desk) -> dict[str, Handler]:
    group = OutcomeGroup(desk)
    handlers = {stage: _engine_handler(desk, group, stage) for stage in OUTCOME}
    persist = handlers["persist"]

    def persist_and_reports(since: str | None) -> None:
        persist(since)
        apply_due(desk)

    return {**handlers, "persist": persist_and_reports}


def dispatch_handlers(world: World, desk: Desk, broker: str) -> dict[str, Handler]:
    order_budget, read_budget = world.budgets[broker, "order"], world.budgets[broker, "read"]
    dispatcher = Dispatcher(desk, broker, order_budget)  # type: ignore[arg-type]
    reader = BookReader(desk, broker, read_budget, order_budget)  # type: ignore[arg-type]

    def read_books(since: str | None) -> None:
        if since == "-":
            reader.watch()
        else:
            reader.look()

    return {dispatch_stage(broker): dispatcher.pump, reports_stage(broker): read_books}


def _engine_handler(desk: Desk, group: object, stage: str) -> Handler:
    """An engine for each message: the real ones, one a thread, remember how far they have looked."""
    pace = Pace(PACE_S)
    free: list[Engine] = []

    def handle(since: str | None) -> int:
        engine = free.pop() if free else Engine(desk, group, pace)  # type: ignore[arg-type]
        try:
            return engine.run(stage, since)
        finally:
            free.append(engine)

    return handle


def _fallible(world: World, step: Step) -> Step:
    """Risk may fail for an order, or kill whoever judges it."""
    return replace(step, judge=_failing_judge(world, step.judge)) if step.name == "risk" else step


def _failing_judge(world: World, judge: Callable[[Order, Facts], Verdict]) -> Callable[[Order, Facts], Verdict]:
    def judged(order: Order, facts: Facts) -> Verdict:
        rng, chances = world.rng, world.chances
        if order.id not in world.raises:
            world.raises[order.id] = rng.choice((1, 2, 9)) if rng.random() < chances.raises else 0
            world.kills[order.id] = rng.choice((1, 2, 9)) if rng.random() < chances.kills else 0
        if world.raises[order.id] > 0:
            world.raises[order.id] -= 1
            raise ValueError("a defect in risk")
        if world.kills[order.id] > 0 and world.loop.current is not None:
            world.kills[order.id] -= 1
            world.kill(world.loop.current.process)
            raise Died
        return judge(order, facts)

    return judged


class _NoRedis:
    """News goes nowhere."""

    def publish(self, channel: str, message: bytes) -> int:
        return 0

    def close(self) -> None: ...
