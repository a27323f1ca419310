"""One account at the simulator, and an adapter whose way there is as good or bad as a row of the table wants it."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from given import an_order
from outcome_words import Book, Way

from brokers import registry
from brokers.base import Line, Session
from brokers.simulator.server import SimulatorServer
from brokers.transport import boot_clock
from domain import reference
from domain.outcomes import Accepted, Outcome

INFY = reference.all_instruments(datetime.now(UTC).date())["NSE:INFY"]
LIMIT_AWAY = INFY.close - 100 * INFY.tick  # rests below the market
OPEN = Way(book=Book.ORDER)
WAIT_S = 10.0
_numbers = itertools.count(1)


class Trial:
    def __init__(self, broker: str, simulator: SimulatorServer, *, cash: int | None = None) -> None:
        self._broker, self._simulator = broker, simulator
        (account,) = self._control("POST", "/accounts", {"facade": broker, "cash": cash or 10_000_000})
        self._user_id = account["user_id"]
        self._session = Session(
            account["user_id"], broker, account["api_key"], account["api_secret"], account["access_token"], "SIM"
        )

    def lines(self, count: int = 1) -> list[Line]:
        return [
            Line(an_order(instrument=INFY.key, broker_tag=f"OM{next(_numbers):017d}", price=LIMIT_AWAY), INFY)
            for _ in range(count)
        ]

    def resting(self) -> tuple[Line, str]:
        """An order that the exchange has, and its id."""
        (line,) = self.lines()
        (outcome,) = self.place([line], OPEN)
        assert isinstance(outcome, Accepted), outcome
        self._until(lambda: self._truth(line)[0]["state"] == "open")
        return line, outcome.broker_order_id

    def place(self, lines: Sequence[Line], way: Way) -> Sequence[Outcome]:
        self._prepare(way, "multi" if len(lines) > 1 else "place")
        return self._adapter(way).place(self._session, lines, **_time_of(way))

    def modify(self, order_id: str, line: Line, way: Way) -> Outcome:
        self._prepare(way, "modify")
        wanted = replace(line, order=replace(line.order, price=LIMIT_AWAY - INFY.tick))
        return self._adapter(way).modify(self._session, order_id, wanted, changed={"price"}, **_time_of(way))

    def cancel(self, order_id: str, way: Way) -> Outcome:
        self._prepare(way, "cancel")
        return self._adapter(way).cancel(self._session, order_id, **_time_of(way))

    def requests(self, *endpoints: str) -> int:
        """How many requests the simulator has dealt with, be it that nobody waited for the answer any more."""
        rows = self._control("GET", "/requests")
        return sum(row["count"] for row in rows if row["account"] == self._user_id and row["endpoint"] in endpoints)

    def settle(self, way: Way, endpoint: str) -> None:
        """Wait until the simulator is through with the request, if it got one: then nothing more comes of it."""
        if way.is_heard:
            self._until(lambda: self.requests(endpoint) > 0)

    def book(self, line: Line) -> Book:
        """What the simulator truly has for the line's tag."""
        rows = self._truth(line)
        assert len(rows) <= 1, rows
        if not rows:
            return Book.NOTHING
        return Book.REJECTED if rows[0]["state"] == "rejected" else Book.ORDER

    def is_changed(self, line: Line) -> bool:
        """Whether its modification was taken."""
        return self._truth(line)[0]["modifications"] > 0

    def is_cancelled(self, line: Line) -> bool:
        return self._truth(line)[0]["state"] in ("cancel pending", "cancelled")

    def becomes(self, told: Callable[[], Any], wanted: Any) -> Any:
        """What is told once it is as wanted, or at last."""
        deadline = time.monotonic() + WAIT_S
        while (found := told()) != wanted and time.monotonic() < deadline:
            pass
        return found

    def _prepare(self, way: Way, endpoint: str) -> None:
        for fault in way.faults:
            self._control("POST", "/faults", {"endpoint": endpoint, "account": self._user_id, **fault})
        if way.door != "open":
            self._control("PUT", f"/doors/{self._broker}", {"state": way.door})

    def _adapter(self, way: Way) -> Any:
        host = self._simulator.urls[self._broker].removeprefix("http://")
        return registry.BROKERS[self._broker](
            {f"{self._broker.upper()}_BASE_URL": f"{way.scheme}://{way.host or host}"}
        )

    def _truth(self, line: Line) -> list[dict[str, Any]]:
        return self._control("GET", f"/orders?tag={line.order.broker_tag}")

    def _control(self, method: str, path: str, body: Any = None) -> Any:
        return self._simulator.control(method, path, body)

    def _until(self, is_so: Callable[[], bool]) -> None:
        assert self.becomes(is_so, True)


def _time_of(way: Way) -> dict[str, float]:
    return {"timeout_s": way.timeout_s, **({"send_by": boot_clock()} if way.is_late else {})}
