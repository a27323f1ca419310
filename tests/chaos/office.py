"""All processes around one record, in this process: a stage runs when it is woken, the sweep once a round."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

import psycopg
from house import BROKER, FakeBroker, House, change_engine, eventually, outcome_engine

from domain.cancels import CancelAcceptance, CancelRequest, CancelSubmission
from domain.commands import CommandKind
from domain.modifies import ModifyAcceptance, ModifyRequest, ModifySubmission
from pipeline import aftermath, modifying, sweep
from pipeline.books import BookReader
from pipeline.cancelling import accept
from pipeline.chain import GROUPS, INTAKE
from pipeline.desk import Desk
from pipeline.groups import Groups
from pipeline.intake_group import IntakeGroup
from pipeline.modifying_stage import ModifyGroup
from pipeline.pump import Pump
from pipeline.reports import apply_due
from pipeline.stage import Engine
from pipeline.stages.dispatch import Dispatcher
from pipeline.steps import STEPS
from pipeline.wakeups import DEEP
from tests.chaos.invariants import Scene, look
from tests.chaos.toy import Truth

ROUNDS_MAX = 16
ROUND = timedelta(seconds=10)  # passes between two rounds
PLACE: dict[str, Any] = {"price": "1200.00", "quantity": 1}  # within INFY's band
KEY = "the-key-of-a-request-that-is-sent-again"
SHIFTED: Mapping[str, tuple[str, ...]] = {
    "commands": ("due_at", "lease_until"),
    "searches": ("asked_at", "proof_from", "next_at", "clean_at"),
    "reports": ("due_at", "received_at"),
    "claims": ("opened_at",),
    "group_marks": ("due_at",),
    "strays": ("cancel_asked_at",),
    "changes": ("asked_at", "proof_from"),
    "book_reads": ("began_at",),
}


class Calls:
    """Wake-ups that were asked for, and from when on each stage is to look."""

    def __init__(self) -> None:
        self.asked: dict[str, str | None] = {}
        self.connected = True

    def wake(self, stage: str, *, since: datetime | None = None, deep: bool = False) -> None:
        self.asked[stage] = DEEP if deep else since.isoformat() if since is not None else None

    def wake_later(self, stage: str, wait_s: float) -> None: ...  # the sweep comes round

    def stop(self, timeout_s: float = 2.0) -> None: ...


class Office:
    """`settle` works until nothing moves any more, while time passes quickly."""

    def __init__(self, house: House, broker: FakeBroker, truth: Truth) -> None:
        self.house, self.broker, self.truth = house, broker, truth
        self.desk = house.desk(broker)
        self.calls = Calls()
        self.desk.wakeups = self.calls  # type: ignore[assignment]
        self.dispatcher: Dispatcher = house.dispatcher(self.desk)
        self.reader = BookReader(self.desk, BROKER)
        self.sweep = sweep.Sweep(self.desk)
        intake = {stage: Engine(self.desk, IntakeGroup(self.desk, STEPS)) for stage in INTAKE}
        outcome, changes = outcome_engine(self.desk), change_engine(self.desk)
        modifies = modify_engine(self.desk)
        self._changers = [
            house.changer(self.desk),
            house.changer(self.desk, soft=True),
            house.changer(self.desk, CommandKind.MODIFY),
        ]
        self._handlers: dict[str, Callable[[str | None], object]] = {
            **{stage: lambda since, stage=stage: intake[stage].run(stage, since) for stage in INTAKE},
            "persist": lambda since: (outcome.run("persist", since), apply_due(self.desk)),
            "notify": lambda since: outcome.run("notify", since),
            GROUPS: Groups(self.desk).run,
            "cancel": lambda since: changes.run("cancel", since),
            "modify": lambda since: modifies.run("modify", since),
            f"dispatch.{BROKER}": self._send,
            **{changer.stage: lambda since, changer=changer: _pump(changer, since) for changer in self._changers},
            f"reports.{BROKER}": lambda since: self.reader.read(),
        }

    def settle(self) -> Scene:
        """Work until no command and no report is left to be worked on, or for so many rounds."""
        for _ in range(ROUNDS_MAX):
            if not (scene := self.scene()).busy and not self._is_unseen():
                return scene
            self.round()
        return self.scene()

    def round(self) -> None:
        aftermath.carry_out(self.desk)
        self.sweep.run()
        while self.calls.asked:
            asked, self.calls.asked = self.calls.asked, {}
            for stage, since in asked.items():
                if stage in self._handlers:
                    self._handlers[stage](since)
        self.sweep._deep_at = self.sweep._books_at = 0.0
        self.pass_time(ROUND)

    def scene(self) -> Scene:
        return look(self.house.owner_database_url, book=self.truth.book)

    def pass_time(self, passed: timedelta) -> None:
        """All that is to come comes so much sooner, and all that was is so much longer ago."""
        with psycopg.connect(self.house.owner_database_url) as connection:
            for table, columns in SHIFTED.items():
                shifts = ", ".join(f"{column} = {column} - %(passed)s" for column in columns)
                connection.execute(f"update {table} set {shifts}", {"passed": passed})  # noqa: S608

    def close(self) -> None:
        for pump in (self.dispatcher, *self._changers):
            pump.stop(2.0)
        self.sweep.close()

    def _send(self, since: str | None) -> None:
        _pump(self.dispatcher, since)

    def _is_unseen(self) -> bool:
        """Whether an order is at the broker whose book hasn't been read since."""
        return bool(self.house.rows("select 1 from orders where state in ('SUBMITTED', 'SENDING', 'UNKNOWN') limit 1"))


def cancel_all(desk: Desk, user_id: str) -> CancelAcceptance:
    """The same request each time."""
    request = CancelRequest.model_validate({"filter": {"all": True}})
    return accept(
        desk,
        CancelSubmission(
            user_id=user_id, key_id=user_id, idempotency_key=KEY, fingerprint=b"c" * 32, request=request
        ),
    )


def modify_all(desk: Desk, user_id: str) -> list[ModifyAcceptance]:
    """The same request each time: twice as many of each order."""
    with desk.store.unit() as unit:
        ids = [row[0] for row in unit.rows("select id from orders where broker_order_id is not null order by id")]
    request = ModifyRequest(quantity=2)
    return [
        modifying.accept(desk, ModifySubmission(user_id, user_id, KEY, b"m" * 32, order_id, 1, request)) for order_id in ids
    ]


def modify_engine(desk: Desk) -> Engine:
    return Engine(desk, ModifyGroup(desk))


def _pump(pump: Pump[Any], since: str | None) -> None:
    pump.pump(since)
    eventually(lambda: pump.is_idle)
