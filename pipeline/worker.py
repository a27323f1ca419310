"""A worker process: `python -m pipeline.worker intake | outcome | dispatch BROKER`."""

from __future__ import annotations

import gc
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.worker import Worker

from domain.commands import CommandKind
from pipeline import logs
from pipeline.books import BookReader
from pipeline.chain import GROUPS, OUTCOME, dispatch_stage, queue_of, reconcile_stage, reports_stage
from pipeline.crash import crash
from pipeline.desk import Desk, from_env
from pipeline.pace import Pace
from pipeline.rabbit import connect
from pipeline.reports import apply_due
from pipeline.stage import PACE_S, Engine
from pipeline.stopping import StopSignals
from pipeline.wakeups import DEEP

if TYPE_CHECKING:
    from brokers.limits import RateBudget
    from domain.capabilities import Window

log = logging.getLogger(__name__)

STOP_S = 8.0  # for what is under way at SIGTERM
Handler = Callable[[str | None], object]


def main(arguments: list[str]) -> int:
    logs.begin()
    match arguments:
        case ["intake"]:
            return run("intake", intake_handlers, threads=int(os.environ.get("INTAKE_THREADS", "3")))
        case ["outcome"]:
            return run("outcome", outcome_handlers, threads=int(os.environ.get("OUTCOME_THREADS", "2")))
        case ["dispatch", broker]:
            return run(f"dispatch-{broker}", lambda desk: dispatch_handlers(desk, broker), threads=4)
    print("usage: python -m pipeline.worker intake | outcome | dispatch BROKER", file=sys.stderr)
    return 2


def run(name: str, build: Callable[[Desk], tuple[dict[str, Handler], Callable[[], None]]], *, threads: int) -> int:
    """Consume the handlers' queues until SIGTERM or SIGINT; finishes what is under way first."""
    stop = StopSignals()
    desk = from_env(name)
    desk.stopping = stop.event
    desk.wakeups.start()
    handlers, stop_handlers = build(desk)
    broker = connect(desk.environment.queue_url)
    dramatiq.set_broker(broker)
    for stage, handler in handlers.items():
        _declare(broker, stage, handler)
    worker = Worker(broker, queues={queue_of(stage) for stage in handlers}, worker_threads=threads, worker_timeout=200)
    worker.queue_prefetch = threads  # what is prefetched runs again when the connection is lost
    gc.collect()
    gc.freeze()  # what is there by now stays; no collection need look at it again
    gc.set_threshold(10_000, 20, 20)
    worker.start()
    if ready_file := os.environ.get("READY_FILE"):
        Path(ready_file).touch()
    log.info("%s consumes %s", name, ", ".join(sorted(handlers)))
    for stage in handlers:
        desk.wakeups.wake(stage, deep=True)
    stop.wait()
    log.info("%s stops", name)
    finish(worker, stop_handlers)
    desk.close()
    return 0


def finish(worker: Worker, stop_handlers: Callable[[], None]) -> None:
    """Let what is under way end, and take nothing more.

    The consumers' connections are not closed one by one, which takes seconds: they end with the process, and RabbitMQ
    gives the wake-ups that were delivered and not acknowledged to another worker.
    """
    deadline = time.monotonic() + STOP_S
    for thread in worker.workers:
        thread.stop()
    stop_handlers()
    for thread in worker.workers:
        thread.join(max(0.1, deadline - time.monotonic()))


def intake_handlers(desk: Desk) -> tuple[dict[str, Handler], Callable[[], None]]:
    from pipeline.changes import ChangeGroup
    from pipeline.groups import Groups
    from pipeline.intake_group import IntakeGroup
    from pipeline.modifying_stage import ModifyGroup
    from pipeline.steps import STEPS

    groups = IntakeGroup(desk, STEPS), ChangeGroup(desk), ModifyGroup(desk)
    handlers = {stage: _engine_handler(desk, group, stage) for group in groups for stage in group.policies}
    return {**handlers, GROUPS: Groups(desk).run}, lambda: None


def outcome_handlers(desk: Desk) -> tuple[dict[str, Handler], Callable[[], None]]:
    from pipeline.stages.persist import OutcomeGroup

    group = OutcomeGroup(desk)
    handlers = {stage: _engine_handler(desk, group, stage) for stage in OUTCOME}
    persist = handlers["persist"]

    def persist_and_reports(since: str | None) -> None:
        persist(since)
        apply_due(desk)

    return {**handlers, "persist": persist_and_reports}, lambda: None


def dispatch_handlers(desk: Desk, broker: str) -> tuple[dict[str, Handler], Callable[[], None]]:
    from brokers import transport
    from brokers.health import Health
    from pipeline.reconcile import Reconciler
    from pipeline.stages.change import Changer
    from pipeline.stages.dispatch import Dispatcher

    health = Health(desk.redis)
    transport.crash = crash
    transport.watchers.append(health.watch)
    able = desk.adapters[broker].capabilities
    order_budget = _budget(desk, broker, able.order_windows, "order")
    dispatcher = Dispatcher(desk, broker, order_budget, health)
    changers = [
        Changer(desk, broker, CommandKind.CANCEL, order_budget, health),
        Changer(desk, broker, CommandKind.CANCEL, order_budget, health, soft=True),
        Changer(desk, broker, CommandKind.MODIFY, order_budget, health),
    ]
    read_budget = _budget(desk, broker, able.read_windows, "read")
    reader = BookReader(desk, broker, read_budget, order_budget)
    reconciler = Reconciler(desk, broker, read_budget)

    def read_books(since: str | None) -> None:
        if since == DEEP:
            reader.watch()
        else:
            reader.look()

    def stop() -> None:
        reader.stop()
        deadline = time.monotonic() + STOP_S
        dispatcher.stop(STOP_S)
        for changer in changers:
            changer.stop(max(0.1, deadline - time.monotonic()))

    handlers: dict[str, Handler] = {
        dispatch_stage(broker): dispatcher.pump,
        **{changer.stage: changer.pump for changer in changers},
        reports_stage(broker): read_books,
        reconcile_stage(broker): reconciler.run,
    }
    return handlers, stop


def _budget(desk: Desk, broker: str, windows: Sequence[Window], kind: str) -> RateBudget | None:
    from brokers.limits import RateBudget

    return RateBudget(desk.redis, broker, windows, kind) if windows else None


def _engine_handler(desk: Desk, group: object, stage: str) -> Handler:
    """An engine per thread: each remembers how far it has looked."""
    local, pace = threading.local(), Pace(PACE_S)

    def handle(since: str | None) -> int:
        engine = getattr(local, "engine", None)
        if engine is None:
            engine = local.engine = Engine(desk, group, pace)  # type: ignore[arg-type]
        done: int = engine.run(stage, since)
        return done

    return handle


def _declare(broker: RabbitmqBroker, stage: str, handler: Handler) -> None:
    @dramatiq.actor(actor_name=queue_of(stage), queue_name=queue_of(stage), broker=broker)
    def act(since: str | None = None) -> None:
        handler(since)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
