"""A room for tests of groups: the intake, the decisions, one broker that does as it is told, its book, and cancels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from house import BROKER, FakeBroker, House, a_row, eventually, intake_engine

from brokers.base import Line
from domain.cancels import CancelRequest, CancelSubmission
from domain.ids import new_id
from domain.intents import Acceptance, PlaceRequest, Submission
from domain.lifecycle import OrderState
from domain.outcomes import Accepted, Outcome, Refused, Unknown
from pipeline import cancelling
from pipeline.books import BookReader
from pipeline.changes import ChangeGroup
from pipeline.desk import Desk
from pipeline.groups import Groups
from pipeline.intake import Intake
from pipeline.reports import apply_due
from pipeline.stage import Engine
from pipeline.steps import STEPS

TERMS: Mapping[str, Any] = {
    "instrument": "NSE:INFY",
    "side": "BUY",
    "quantity": 10,
    "product": "CNC",
    "orderType": "LIMIT",
    "price": "1200.00",  # within INFY's band
    "account": "FK0001",
}
REFUSED = {"quantity": 500}  # risk says no: its value is ₹6,00,000
PATIENCE_S = 15.0


class Room:
    """Nothing moves before the test says so."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.outcomes: dict[str, Outcome] = {}  # by the correlationId of the line; the others are accepted
        self.broker = FakeBroker(self._answer)
        self.desk: Desk = house.desk(self.broker)
        self.engine = intake_engine(self.desk, *STEPS)
        self.groups = Groups(self.desk)
        self.dispatcher = house.dispatcher(self.desk)
        self.reader = BookReader(self.desk, BROKER)
        self.ids: list[str] = []

    def accept(
        self, *lines: Mapping[str, Any], policy: str | None = None, key: str | None = None, **given: Any
    ) -> Acceptance:
        """An intent whose lines are called a, b, c …, with INFY's terms where a line says nothing else."""
        orders = [{"correlationId": chr(ord("a") + number), **TERMS, **line} for number, line in enumerate(lines)]
        asked = {"orders": orders, **({"policy": policy} if policy else {}), **given}
        submission = Submission(
            self.house.user_id, self.house.user_id, key or new_id(), b"f" * 32, PlaceRequest.model_validate(asked)
        )
        intake = Intake(self.desk)
        try:
            acceptance = intake.submit(submission).result(PATIENCE_S)
        finally:
            intake.stop()
        self.ids = [line.order_id for line in acceptance.lines]
        return acceptance

    def judge(self) -> None:
        self.engine.run("validate", "-")

    def decide(self) -> int:
        return self.groups.run()

    def send(self) -> None:
        self.dispatcher.pump("-")
        eventually(lambda: self.dispatcher.is_idle)

    def go(self) -> None:
        """Judge, decide and send until nothing more is sent."""
        self.judge()
        sent = -1
        while sent != len(self.broker.tags):
            sent = len(self.broker.tags)
            self.decide()
            self.send()
        self.decide()

    def show(self, *rows: tuple[int, OrderState, int]) -> None:
        """The book shows (line, state, filled) of what was sent; what it shows is applied."""
        shown = []
        for number, state, filled in rows:
            order = self.order(number)
            price = Decimal("1200.00") if filled else None
            shown.append(
                a_row(
                    order.broker_tag, state=state, filled_quantity=filled, average_price=price, quantity=order.quantity
                )
            )
        self.broker.books["FK0001"] = shown
        self.reader.read()
        apply_due(self.desk)

    def cancel(self, number: int) -> None:
        """Accepted, not yet carried out."""
        request = CancelRequest.model_validate({"orderIds": [self.ids[number]]})
        submission = CancelSubmission(
            user_id=self.house.user_id,
            key_id=self.house.user_id,
            idempotency_key=new_id(),
            fingerprint=b"c" * 32,
            request=request,
        )
        cancelling.accept(self.desk, submission)

    def carry_out_cancels(self) -> None:
        Engine(self.desk, ChangeGroup(self.desk)).run("cancel", "-")

    def pass_the_limit(self) -> None:
        self.house.run("update orders set send_before = now() - interval '1 second'")
        self.house.run("update commands set due_at = now() - interval '1 second' where state = 'HELD'")

    def make_marks_due(self) -> None:
        self.house.run(
            "with taken as (delete from group_marks returning intent_id, tries) insert into group_marks (intent_id, due_at,"
            " tries) select intent_id, now() - interval '2 seconds', tries from taken"
        )

    def order(self, number: int) -> Any:
        return self.house.order(self.ids[number])

    def work(self, number: int) -> tuple[str, str, str | None]:
        command = self.house.command(self.ids[number])
        return command.stage, command.state.value, command.error

    @property
    def states(self) -> list[str]:
        return self.house.states(self.ids)

    @property
    def reasons(self) -> list[str | None]:
        return [order.reason and f"{order.reason_code}: {order.reason}" for order in map(self.house.order, self.ids)]

    @property
    def sent(self) -> list[str]:
        """The correlationIds of what the broker was sent, in the order of its coming."""
        return [line.order.correlation_id for call in self.broker.calls for line in call]

    @property
    def blocked(self) -> int:
        """Paise that the account holds for live orders."""
        return int(self.house.rows("select blocked_paise from accounts where id = 'FK0001'")[0][0])

    def marks(self) -> int:
        return int(self.house.rows("select count(*) from group_marks")[0][0])

    def _answer(self, line: Line) -> Outcome:
        return self.outcomes.get(line.order.correlation_id) or Accepted(f"B-{line.order.broker_tag}")


NO = Refused("RMS", "not today")
SILENCE = Unknown("the connection was reset")


def leg(after: str, **terms: Any) -> dict[str, Any]:
    return {**terms, "after": after}


def plain(count: int) -> Sequence[Mapping[str, Any]]:
    return [{}] * count
