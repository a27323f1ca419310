"""Deliberate bugs, to see that they are found: `python -m tests.chaos.sabotaged BUG MODULE [ARGUMENTS]` runs a program with one.

The production code has no switch for any of this: its parts are replaced in the one process that is to have the bug.
"""

from __future__ import annotations

import contextlib
import re
import runpy
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import psycopg
from dramatiq.brokers.rabbitmq import _RabbitmqConsumer

import domain.events
import pipeline.rabbit
import pipeline.stage
import pipeline.stages.persist
import pipeline.sweep
import pipeline.wayback
import store.commands
import store.orders
from domain.events import Event, EventType
from domain.lifecycle import UNSENT, OrderState
from store.unit import Unit

Replace = Callable[[object, str, object], None]


def call_again(replace: Replace) -> None:
    """A placement whose lease is over is sent once more, as a redelivered message would have it."""

    def expire_leases(unit: Unit, stage: str, now: datetime) -> int:
        return unit.run(
            "update commands set state = 'READY', due_at = %s where stage = %s and state = 'SENDING' and lease_until <= %s",
            (now, stage, now),
        )

    replace(store.commands, "expire_leases", expire_leases)
    _take_for_unsent(replace, OrderState.SENDING)


def _take_for_unsent(replace: Replace, state: OrderState) -> None:
    """The gate lets orders through that are in this state."""
    for module in list(sys.modules.values()):
        if getattr(module, "UNSENT", None) is UNSENT and module.__name__ == "pipeline.gate":
            replace(module, "UNSENT", UNSENT | {state})


def no_fence(replace: Replace) -> None:
    """What came of an old attempt is taken for what came of the newest."""
    _leave_out(replace, "_LOCK_ANSWERED", " and fence = v.fence")


def _leave_out(replace: Replace, name: str, words: str) -> None:
    """Of a statement on commands."""
    sql = getattr(store.commands, name)
    assert words in sql, f"{name} has no {words!r} to leave out"
    replace(store.commands, name, sql.replace(words, ""))


def no_sweep(replace: Replace) -> None:
    """Only messages wake the stages."""
    replace(pipeline.sweep.Sweep, "run", lambda self: None)


def stale_ack(replace: Replace) -> None:
    """A message is acknowledged on whatever channel there is by now."""
    replace(pipeline.rabbit.SafeConsumer, "ack", _RabbitmqConsumer.ack)
    replace(pipeline.rabbit.SafeConsumer, "nack", _RabbitmqConsumer.nack)


def short_proof(replace: Replace) -> None:
    """An order counts as absent before the broker must have shown it."""
    replace(pipeline.wayback.WayBack, "proof_at", lambda self, broker: timedelta(0))


def no_compare_and_set(replace: Replace) -> None:
    """Workers may claim the same command at once, and what they write doesn't ask what is there already."""
    for name in ("_CLAIM", "_CLAIM_THESE", "_CLAIM_SUSPECT"):
        _leave_out(replace, name, "for update skip locked")
    _take_for_unsent(replace, OrderState.SENDING)
    run = Unit.run

    def run_blindly(self: Unit, sql: str, parameters: Any = ()) -> int:
        is_new = re.match(r"\s*insert into (attempts|order_events)", sql)
        return run(self, f"{sql} on conflict do nothing" if is_new else sql, parameters)

    replace(Unit, "run", run_blindly)


def event_outside(replace: Replace) -> None:
    """Events are written on a connection of their own, not in the transaction that changes the row."""
    append = store.orders.append_events

    def append_events(unit: Unit, events: Sequence[Event]) -> None:
        info = unit.connection.info
        own = {"host": info.host, "port": info.port, "user": info.user, "password": info.password, "dbname": info.dbname}
        with psycopg.connect(**own) as connection:  # type: ignore[arg-type]
            append(Unit(connection), events)

    replace(store.orders, "append_events", append_events)


def commit_order_cursor(replace: Replace) -> None:
    """A stage goes on from the newest it has seen, as if commits came in the order of their numbers."""
    run = pipeline.stage.Engine.run
    replace(pipeline.stage, "SLACK", timedelta(0))
    replace(pipeline.stage.Engine, "run", lambda self, stage, since=None: run(self, stage, None))


def rejected_by_timer(replace: Replace) -> None:
    """What nobody knows of counts as rejected."""

    def unknown(order: Any, command: Any, why: str, batch: Any, way: Any) -> None:
        changes = {"reason_code": "TIMED_OUT", "reason": why}
        pipeline.stages.persist._move(order, EventType.REJECTED, OrderState.REJECTED, batch, changes=changes)
        command.finish("notify", batch.at)

    replace(pipeline.stages.persist, "_unknown", unknown)


def margin_kept(replace: Replace) -> None:
    """An order that has ended keeps what it has blocked."""
    replace(domain.events, "TERMINAL", frozenset())


BUGS: dict[str, Callable[[Replace], None]] = {
    bug.__name__: bug
    for bug in (
        call_again,
        no_fence,
        no_sweep,
        stale_ack,
        short_proof,
        no_compare_and_set,
        event_outside,
        commit_order_cursor,
        rejected_by_timer,
        margin_kept,
    )
}


@contextmanager
def sabotage(name: str) -> Iterator[None]:
    """The bug, while the block lasts; `none` is none."""
    with contextlib.ExitStack() as undo:

        def replace(owner: object, attribute: str, value: object) -> None:
            undo.callback(setattr, owner, attribute, getattr(owner, attribute))
            setattr(owner, attribute, value)

        if name != "none":
            BUGS[name](replace)
        yield


def main(arguments: list[str]) -> None:
    bug, module, *rest = arguments
    if bug not in BUGS and bug != "none":
        sys.exit(f"no bug {bug}; there are {', '.join(BUGS)}")
    # What a worker imports late must be there to be replaced.
    for late in ("pipeline.stages.dispatch", "pipeline.gate", "pipeline.books"):
        with contextlib.suppress(ModuleNotFoundError):
            __import__(late)
    sys.argv = [re.sub(r"\.", "/", module) + ".py", *rest]
    with sabotage(bug):
        runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(sys.argv[1:])
