"""A process dies at each crash point there is, once: what it was about is done all the same, and once.

The points are read off the code (`points.py`), so that a new one without a scene here fails. Each scene prepares what its
act needs to get there; then a forked worker does the act and is killed; another one does it again, and the rest of the
house goes on until nothing moves any more.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import pika
import psycopg
import pytest
from dramatiq.common import dq_name, xq_name
from house import BROKER, House, change_engine, intake_engine

import pipeline.chain
from domain.ids import new_id
from pipeline import deadletters
from pipeline.calls import make_call
from pipeline.chain import queue_of
from pipeline.deadletters import By
from pipeline.steps import STEPS
from tests.chaos.invariants import find_violations
from tests.chaos.office import KEY, PLACE, Office, cancel_all, modify_all, modify_engine
from tests.chaos.points import points
from tests.chaos.toy import ToyBroker, ToyServer, Truth

DYING = Path(__file__).with_name("dying.py")
STAGES = ("validate", "risk", "margin", "route")
TIMES = int(os.environ.get("CRASH_TIMES", "1"))
NAMES = [point.name for point in points()] * TIMES

Mortal = Callable[..., int]


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[ToyServer, Truth]]:
    truth = Truth()
    with ToyServer(truth) as server:
        yield server, truth


@pytest.fixture
def truth(server: tuple[ToyServer, Truth]) -> Truth:
    server[1].taken.clear()
    return server[1]


@pytest.fixture(scope="module")
def workers() -> Iterator[subprocess.Popen[bytes]]:
    paths = [str(DYING.parents[2]), str(DYING.parents[1] / "integration" / "engine")]
    with subprocess.Popen(
        [sys.executable, DYING],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    ) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


@pytest.fixture
def prefix(queue_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Queues of this test's own."""
    prefix = f"chaos.{new_id()[-12:]}."
    monkeypatch.setattr(pipeline.chain, "QUEUE_PREFIX", prefix)
    yield prefix
    connection = pika.BlockingConnection(pika.URLParameters(queue_url))
    for name in (queue_of("validate"), dq_name(queue_of("validate")), xq_name(queue_of("validate"))):
        connection.channel().queue_delete(name)
    connection.close()


@pytest.fixture
def office(
    house: House, truth: Truth, queue_url: str, prefix: str, point: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Office]:
    if scene_of(point).needs_queue:
        house.queue_url = queue_url
    office = Office(house, ToyBroker(truth), truth)
    if not scene_of(point).needs_queue:
        monkeypatch.setattr(office.sweep._queue, "depth", lambda queue: (0, 0))
    yield office
    office.close()


@pytest.fixture
def mortal(
    house: House, server: tuple[ToyServer, Truth], workers: subprocess.Popen[bytes], prefix: str
) -> Mortal:
    """Has a worker do an act, with a point to die at or none; gives the signal that ended it, or 0."""
    assert workers.stdin is not None
    assert workers.stdout is not None

    def run(act: str, stage: str = "", point: str = "") -> int:
        asked = {
            "act": act,
            "stage": stage,
            "point": point,
            "prefix": prefix,
            "url": house.database_url,
            "user": house.user_id,
            "queue_url": house.queue_url,
            "broker_url": server[0].url,
        }
        workers.stdin.write(orjson.dumps(asked) + b"\n")  # type: ignore[union-attr]
        workers.stdin.flush()  # type: ignore[union-attr]
        return int(workers.stdout.readline())  # type: ignore[union-attr]

    return run


# What has happened before a worker gets to the point.


def nothing(office: Office, mortal: Mortal, stage: str) -> None: ...


def accepted(office: Office, mortal: Mortal, stage: str) -> None:
    """An order that is due at the stage."""
    office.house.accept_many(1, **PLACE)
    if stage:
        office.house.run("update commands set stage = %s", stage)


def cleared(office: Office, mortal: Mortal, stage: str) -> None:
    accepted(office, mortal, "")
    intake_engine(office.desk, *STEPS).run("validate", "-")
    if stage:
        office.house.run("update commands set stage = %s", stage)


def held(office: Office, mortal: Mortal, stage: str) -> None:
    """Both lines of a group wait for the word that they may be sent."""
    office.house.accept(2, policy="ALL_OR_NONE", **PLACE)
    intake_engine(office.desk, *STEPS).run("validate", "-")


def cut_off(office: Office, mortal: Mortal, stage: str) -> None:
    """The broker has the order, its dispatcher died before it could write that down, and the lease is over."""
    cleared(office, mortal, "")
    for call in office.dispatcher._first_step(8, [], office.dispatcher._claim):
        make_call(office.desk, BROKER, call, None)
    office.pass_time(timedelta(seconds=20))


def handed_over(office: Office, mortal: Mortal, stage: str) -> None:
    cut_off(office, mortal, "")
    office.sweep.run()


def sent(office: Office, mortal: Mortal, stage: str) -> None:
    """The broker has it and said so; nobody has looked into its book yet."""
    cleared(office, mortal, "")
    office._handlers[f"dispatch.{BROKER}"]("-")


def reported(office: Office, mortal: Mortal, stage: str) -> None:
    sent(office, mortal, "")
    office.reader.read()


def badly_reported(office: Office, mortal: Mortal, stage: str) -> None:
    """A report that nobody can apply."""
    sent(office, mortal, "")
    office.house.run(
        "insert into reports (order_id, digest, source, body, received_at, due_at)"
        " select id, 'x', 'POLL', '{}', now(), now() from orders"
    )


def at_rest(office: Office, mortal: Mortal, stage: str) -> None:
    cleared(office, mortal, "")
    office.settle()


def cancelling(office: Office, mortal: Mortal, stage: str) -> None:
    """Its cancel is accepted, and due at the cancel stage."""
    at_rest(office, mortal, "")
    cancel_all(office.desk, office.house.user_id)


def to_be_asked(office: Office, mortal: Mortal, stage: str) -> None:
    """Its cancel waits for its turn to be called."""
    cancelling(office, mortal, "")
    change_engine(office.desk).run("cancel", "-")
    if stage:
        office.house.run("update commands set stage = %s where seq = 1", stage)


def ready_once_more(office: Office, mortal: Mortal, stage: str) -> None:
    at_rest(office, mortal, "")
    office.house.run("update commands set state = 'READY', live = true, stage = %s, done_at = null", stage)


def at_a_dead_session(office: Office, mortal: Mortal, stage: str) -> None:
    sent(office, mortal, "")
    office.house.run("update accounts set session = 'DEAD'")


def with_a_twin(office: Office, mortal: Mortal, stage: str) -> None:
    at_rest(office, mortal, "")
    (row,) = office.truth.taken
    office.truth.take(row["account"], row["tag"])
    office.reader.read()


def with_an_ended_twin(office: Office, mortal: Mortal, stage: str) -> None:
    with_a_twin(office, mortal, "")
    office.reader.read()  # has it cancelled


def after_a_death(office: Office, mortal: Mortal, stage: str) -> None:
    accepted(office, mortal, "")
    assert mortal("intake", "validate", "validate.after_claim") == signal.SIGKILL
    office.pass_time(timedelta(seconds=5))


def stuck(office: Office, mortal: Mortal, stage: str) -> None:
    accepted(office, mortal, "")
    office.house.run("update commands set state = 'STUCK', live = false, error = 'not today'")


def buried(office: Office, mortal: Mortal, stage: str) -> None:
    stuck(office, mortal, "")
    office.sweep.run()


def taken_off(office: Office, mortal: Mortal, stage: str) -> None:
    """No longer stuck, its dead letter still there."""
    buried(office, mortal, "")
    office.house.run("update commands set state = 'READY', live = true, buried_at = null")


def with_a_signal_strategy(office: Office, mortal: Mortal, stage: str) -> None:
    assert mortal("define signals") == 0


def scheduled(office: Office, mortal: Mortal, stage: str) -> None:
    assert mortal("schedule") == 0
    if stage:
        office.house.run("update schedules set due_at = now()")


def modifying(office: Office, mortal: Mortal, stage: str) -> None:
    """Its modify is accepted, and due at the modify stage."""
    at_rest(office, mortal, "")
    modify_all(office.desk, office.house.user_id)


def modify_to_be_asked(office: Office, mortal: Mortal, stage: str) -> None:
    """Its modify waits for its turn to be called."""
    modifying(office, mortal, "")
    modify_engine(office.desk).run("modify", "-")


def modify_shown(office: Office, mortal: Mortal, stage: str) -> None:
    """Its modify was called for, and the book shows it; that waits to be applied."""
    modify_to_be_asked(office, mortal, "")
    office._handlers[f"dispatch.{BROKER}.modify"]("-")
    if stage != "books":
        office.reader.read()


def with_a_position(office: Office, mortal: Mortal, stage: str) -> None:
    """Something was bought, by an order that is of no concern here."""
    order_id = new_id()
    office.house.run(
        "insert into orders (id, intent_id, line, correlation_id, user_id, instrument, side, quantity, product, order_type,"
        " validity, broker_tag, state, last_seq, version, filled_quantity, accepted_at, send_before, updated_at, account_id, broker)"
        " values (%s, %s, 0, 'bought', %s, 'NSE:INFY', 'BUY', 5, 'MIS', 'MARKET', 'DAY', 'BOUGHT', 'FILLED', 0, 1, 5, now(), now(),"
        " now(), 'FK0001', %s)",
        order_id, order_id, office.house.user_id, BROKER,
    )  # fmt: skip
    office.house.run(
        "insert into trades (order_id, exchange, trade_id, user_id, broker, account_id, instrument, side, quantity, price, at)"
        " values (%s, 'NSE', 't1', %s, %s, 'FK0001', 'NSE:INFY', 'BUY', 5, 1121, now())",
        order_id, office.house.user_id, BROKER,
    )  # fmt: skip


@dataclass(frozen=True)
class Scene:
    """How a worker gets to a crash point."""

    prepare: Callable[[Office, Mortal, str], None]
    act: str
    stage: str = ""
    needs_queue: bool = False
    sends: bool = True  # whether an order comes of it
    leaves: str = "open"  # the order, in its broker's book
    closes: int = 0  # units of a position, by all orders together


def scene_of(point: str) -> Scene:
    stage, _, rest = point.rpartition(".set_aside.")
    if rest and stage in STAGES:
        return Scene(accepted, "fail", stage)
    if rest and stage == "cancel":
        return Scene(cancelling, "fail to cancel", stage, leaves="cancelled")
    if rest and stage == "modify":
        return Scene(modifying, "fail to cancel", stage)
    if rest and stage.endswith((".cancel", ".modify")):
        return Scene(to_be_asked, "fail to cancel", stage, leaves="cancelled")
    if rest and stage.startswith("dispatch."):
        return Scene(cleared, "fail", stage)
    if rest and stage == "persist":
        return Scene(handed_over, "fail", stage)
    if rest and stage == "notify":
        return Scene(ready_once_more, "fail", stage)
    first = point.partition(".")[0]
    if first in STAGES:
        return Scene(accepted, "intake", first)
    for beginning, scene in SCENES.items():
        if point.startswith(beginning):
            return scene
    raise KeyError(f"no scene for the crash point {point}: write one here")


SCENES: dict[str, Scene] = {
    "intake.after_guard": Scene(with_a_signal_strategy, "signal"),
    "intake.": Scene(nothing, "accept"),
    "signals.refused.": Scene(with_a_signal_strategy, "refuse a signal", sends=False),
    "signals.": Scene(nothing, "define signals", sends=False),
    "groups.put_off.": Scene(held, "fail to decide"),
    "groups.": Scene(held, "decide"),
    "cancelling.": Scene(at_rest, "cancel", leaves="cancelled"),
    "modifying.": Scene(at_rest, "modify"),
    "modify.": Scene(modifying, "judge modifies"),
    "cancel.": Scene(cancelling, "judge cancels", leaves="cancelled"),
    "change.": Scene(to_be_asked, "ask for cancels", leaves="cancelled"),
    "dispatch.": Scene(cleared, "dispatch"),
    "broker.": Scene(cleared, "dispatch"),
    "persist.": Scene(handed_over, "outcome", "persist"),
    "notify.": Scene(ready_once_more, "outcome", "notify"),
    "claims.before_open": Scene(accepted, "intake", "validate"),
    "claims.before_forget": Scene(accepted, "fail", "validate"),
    "reports.set_aside.": Scene(badly_reported, "reports"),
    "reports.": Scene(reported, "reports"),
    "books.session.": Scene(at_a_dead_session, "books"),
    "books.twins.": Scene(with_an_ended_twin, "books"),
    "books.cancel.": Scene(with_a_twin, "books"),
    "books.": Scene(sent, "books"),
    "updates.": Scene(sent, "hear"),
    "listen.leases.": Scene(sent, "hold streams"),
    "listen.leave.": Scene(sent, "leave streams"),
    "reconcile.ask.": Scene(sent, "ask"),
    "reconcile.put_off.": Scene(at_a_dead_session, "compare"),
    "reconcile.": Scene(sent, "compare"),
    "sweep.leases.": Scene(cut_off, "sweep"),
    "sweep.deaths.": Scene(after_a_death, "sweep"),
    "sweep.unknown.": Scene(accepted, "sweep"),
    "sweep.bury.": Scene(stuck, "sweep", needs_queue=True),
    "letters.before_ack": Scene(taken_off, "tidy", needs_queue=True),
    "letters.": Scene(stuck, "sweep", needs_queue=True),
    "deadletters.": Scene(stuck, "requeue"),
    "drain.": Scene(buried, "drain", needs_queue=True),
    "wakeups.before_ack": Scene(nothing, "consume", needs_queue=True, sends=False),
    "wakeups.": Scene(nothing, "wake", needs_queue=True, sends=False),
    "schedules.accept.": Scene(nothing, "schedule", sends=False),
    "schedules.remove.": Scene(scheduled, "unschedule", sends=False),
    "schedules.": Scene(scheduled, "begin schedules", "due", sends=False),
    "squareoff.": Scene(with_a_position, "square off", closes=5),
    "switches.": Scene(accepted, "switch"),
    "aftermath.flattened": Scene(with_a_position, "flatten", closes=5),
    "aftermath.": Scene(at_rest, "halt", leaves="cancelled"),
    "settings.": Scene(accepted, "set"),
    "reads.": Scene(accepted, "note a read"),
    "retention.": Scene(accepted, "forget"),
    "clock.partitions.": Scene(nothing, "partitions", sends=False),
}


@pytest.mark.parametrize("point", NAMES)
def test_a_death_at(point: str, office: Office, mortal: Mortal, cleaner: psycopg.Connection) -> None:
    scene = scene_of(point)
    scene.prepare(office, mortal, scene.stage)

    assert mortal(scene.act, scene.stage, point) == signal.SIGKILL
    assert mortal(scene.act, scene.stage) == 0
    assert office.house.rows("select coalesce(sum(quantity), 0) from orders where side = 'SELL'") == [(scene.closes,)]

    clear_away(office, point, cleaner)
    office.settle()
    cleaner.execute("with bought as (delete from orders where broker_tag = 'BOUGHT') delete from trades where trade_id = 't1'")
    seen = office.scene()
    assert find_violations(seen) == []
    assert not seen.busy
    assert [row["state"] for row in seen.book] == [scene.leaves] * len(seen.orders)
    assert bool(seen.orders) is scene.sends
    assert len(office.house.rows("select 1 from intents where idempotency_key = %s", KEY)) <= 1


# What a placement or a cancel gets to as well, and a modify in another way.
OF_MODIFIES: dict[str, Scene] = {
    "change.": Scene(modify_to_be_asked, "ask for modifies"),
    "dispatch.after_claim": Scene(modify_to_be_asked, "ask for modifies"),
    "dispatch.before_commit": Scene(modify_to_be_asked, "ask for modifies"),
    "dispatch.after_commit": Scene(modify_to_be_asked, "ask for modifies"),
    "broker.": Scene(modify_to_be_asked, "ask for modifies"),
    "books.before_commit": Scene(modify_shown, "books", "books"),
    "books.after_commit": Scene(modify_shown, "books", "books"),
    "reports.apply.": Scene(modify_shown, "reports"),
}


@pytest.mark.parametrize("point", [name for name in NAMES if name.startswith(tuple(OF_MODIFIES))])
def test_a_death_of_a_modify_at(point: str, office: Office, mortal: Mortal) -> None:
    scene = next(scene for beginning, scene in OF_MODIFIES.items() if point.startswith(beginning))
    scene.prepare(office, mortal, scene.stage)

    assert mortal(scene.act, scene.stage, point) == signal.SIGKILL
    assert mortal(scene.act, scene.stage) == 0

    seen = office.settle()
    assert find_violations(seen) == []
    assert not seen.busy
    assert [row["changes"] for row in office.truth.taken] in (["0"], ["1"]), "it is never called for twice"
    (row,) = office.house.rows("select result from changes")
    assert row[0] == ("MODIFIED" if office.truth.taken[0]["changes"] == "1" else "NOT_APPLIED")


def clear_away(office: Office, point: str, cleaner: psycopg.Connection) -> None:
    """What the scene itself put there, and what an operator does."""
    cleaner.execute("delete from reports where body::text = '{}'")
    del office.truth.taken[len(office.house.rows("select 1 from orders where broker_tag = any(%s)", _tags(office))) :]
    office.house.run("update accounts set session = 'ALIVE'")
    office.house.run(
        "update commands set stage = lower(kind) where seq > 0 and stage <> all(%s)",
        [f"dispatch.{BROKER}.cancel", f"dispatch.{BROKER}.modify"],
    )
    for stage in ("dispatch.upstox", "dispatch.zerodha"):
        office.house.run("update commands set stage = %s where stage = %s", f"dispatch.{BROKER}", stage)
    for (order_id,) in office.house.rows("select order_id from commands where state = 'STUCK'"):
        deadletters.requeue(office.desk, order_id, By(operator="anybody", reason="the crash is over"))


def _tags(office: Office) -> Sequence[Any]:
    return [row["tag"] for row in office.truth.taken]
