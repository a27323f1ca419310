"""All stages of one house on one clock that the test moves, each run once a round; and cancels as a client asks for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

from house import BROKER, FakeBroker, House, change_engine, eventually, intake_engine, outcome_engine

from domain.cancels import CancelAcceptance, CancelRequest, CancelSubmission
from domain.commands import CommandKind
from domain.ids import new_id
from pipeline.books import BookReader
from pipeline.cancelling import Matching, accept, matching
from pipeline.pump import Pump
from pipeline.reports import apply_due
from store.unit import Unit

TICK = timedelta(seconds=3)  # after a cancel's call a book may be believed two seconds later
ROUNDS_MAX = 40


class Works:
    """`round` runs every stage once, `settle` goes on until nothing is under way."""

    def __init__(self, house: House, broker: FakeBroker) -> None:
        self.house, self.broker = house, broker
        self.desk = house.desk(broker)
        self.ahead = timedelta()
        real = self.desk.now
        self.desk.now = lambda: real() + self.ahead  # type: ignore[method-assign]
        self.intake = intake_engine(self.desk)
        self.changes = change_engine(self.desk)
        self.outcomes = outcome_engine(self.desk)
        self.dispatcher = house.dispatcher(self.desk)
        self.changer = house.changer(self.desk, CommandKind.CANCEL)
        self.softly = house.changer(self.desk, CommandKind.CANCEL, soft=True)
        self.reader = BookReader(self.desk, BROKER)

    def place(self, lines: int = 1, **terms: Any) -> list[str]:
        """Orders that rest at the broker."""
        ids = self.received(lines, **terms)
        self.clear()
        self.send()
        self.look()
        return ids

    def received(self, lines: int = 1, **terms: Any) -> list[str]:
        return [line.order_id for line in self.house.accept(lines, desk=self.desk, **terms).lines]

    def clear(self) -> None:
        self.intake.run("validate", "-")

    def send(self) -> None:
        _pump(self.dispatcher)

    def judge(self) -> None:
        """The cancel stage."""
        self.changes.run("cancel", "-")

    def ask(self) -> None:
        """The calls of cancels."""
        _pump(self.changer)
        _pump(self.softly)

    def look(self) -> None:
        """Read the books, and apply what they show."""
        self.outcomes.run("persist", "-")
        self.reader.read()
        apply_due(self.desk)

    def cancel(self, *order_ids: str, key: str | None = None, **asked: Any) -> CancelAcceptance:
        return accept(self.desk, self.submission(*order_ids, key=key, **asked))

    def submission(
        self, *order_ids: str, key: str | None = None, fingerprint: bytes = b"c" * 32, **asked: Any
    ) -> CancelSubmission:
        given = {name: asked.pop(name) for name in ("source", "code", "reason") if name in asked}
        request = CancelRequest.model_validate(({"orderIds": list(order_ids)} if order_ids else {}) | asked)
        return CancelSubmission(
            user_id=self.house.user_id,
            key_id=self.house.user_id,
            idempotency_key=key or new_id(),
            fingerprint=fingerprint,
            request=request,
            **given,
        )

    def matching(
        self, unit: Unit, *order_ids: str, limit: int = 100, after: str | None = None, **asked: Any
    ) -> Matching:
        """What it would cancel."""
        request = self.submission(*order_ids, **asked).request
        return matching(unit, self.house.user_id, request, limit=limit, after=after)

    def parts(self) -> Sequence[Callable[[], object]]:
        return (self.clear, self.judge, self.send, self.ask, self.look, self.judge)

    def round(self) -> None:
        for part in self.parts():
            part()
        self.ahead += TICK

    def settle(self) -> None:
        """Until no cancel is under way and every placement has ended or rests."""
        for _ in range(ROUNDS_MAX):
            self.round()
            if not self.house.rows("select 1 from commands where done_at is null and state <> 'STUCK' limit 1"):
                return
        raise AssertionError(
            self.house.rows("select order_id, seq, stage, state, error from commands where done_at is null")
        )

    def results(self, answer: CancelAcceptance) -> list[tuple[int, str | None]]:
        """What came of each line, in order."""
        return [
            (line, result)
            for line, result in self.house.rows(
                "select line, result from changes where intent_id = %s order by line, order_id", answer.intent_id
            )
        ]


def _pump(pump: Pump[Any]) -> None:
    pump.pump("-")
    eventually(lambda: pump.is_idle)
