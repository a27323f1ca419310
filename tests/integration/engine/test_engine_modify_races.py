"""Modifies race fills at the simulated exchange: whoever wins, the record ends with the exchange's own figures.

Fifty cases by default; MODIFY_RACES=1000 runs the campaign, RACES_SEED another one.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from house import ACCOUNTS, BROKER, House
from modify_works import ModifyWorks

from brokers import registry
from brokers.simulator.server import SimulatorServer
from domain.changes import ATTEMPTS_OF_A_SEQ
from domain.errors import NotModifiable
from domain.market import IST
from domain.modifies import ModifyAcceptance
from domain.reference import cash_instruments
from pipeline import books, dayends

RACES = int(os.environ.get("MODIFY_RACES", "50"))
SEED = int(os.environ.get("RACES_SEED", "20261126"))
AT_ONCE = 25  # orders that race side by side
INFY = next(instrument for instrument in cash_instruments() if instrument.key == "NSE:INFY")
AWAY = INFY.close - 100 * INFY.tick  # rests below the market
CROSSING = INFY.close + 10 * INFY.tick
FAULTS = ("drop_after", "cut", "error_after", "timed_out", "drop_before", "error_before", "refuse_change", "rate_limited")
ENDS = {"complete": "FILLED", "cancelled": "CANCELLED", "rejected": "REJECTED"}


class Named:
    """The adapter under the name that the house's accounts know."""

    name = BROKER

    def __init__(self, adapter: Any) -> None:
        self._adapter = adapter

    def __getattr__(self, name: str) -> Any:
        return getattr(self._adapter, name)


@dataclass
class Case:
    """One order's modify, and the fills that come before, between and after its steps."""

    order_id: str
    wanted: dict[str, Any]
    fills: list[tuple[str, int]]
    number: str = ""
    told: ModifyAcceptance | None = None
    refused: str | None = None
    had: dict[str, Any] = field(default_factory=dict)


class Race:
    def __init__(self, house: House, simulator: SimulatorServer, facade: str, seed: int) -> None:
        self.house, self.simulator, self.random = house, simulator, random.Random(seed)
        account = ACCOUNTS[0]
        keys = {"api_key": account.api_key, "api_secret": account.api_secret, "access_token": account.access_token}
        simulator.control("POST", "/accounts", {"facade": facade, "user_id": account.id, "cash": 10**9, **keys})
        house.run("update accounts set session = 'DEAD' where id <> %s", account.id)
        make = registry.BROKERS[facade]({f"{facade.upper()}_BASE_URL": simulator.urls[facade]})
        self.works = ModifyWorks(house, Named(make))  # type: ignore[arg-type]
        self.works.set("broker_proof_s", {BROKER: 20.0})

    def run(self, count: int) -> list[Case]:
        cases = self.placed(count)
        self.fault()
        self.fill(cases, "before")
        if self.random.random() < 0.3:
            self.works.look()
        for case in cases:
            try:
                case.told = self.works.modify(case.order_id, **case.wanted)
            except NotModifiable as refused:
                case.refused = refused.why
        self.works.modifies.run("modify", "-")
        with ThreadPoolExecutor(1) as beside:
            fills = beside.submit(self.fill, cases, "during")
            self.works.ask()
            fills.result()
        if self.random.random() < 0.5:
            self.works.look()
        self.fill(cases, "after")
        self.simulator.control("POST", "/reset", {"what": ["faults"]})
        self.works.settle()
        self.works.look()
        return cases

    def placed(self, count: int) -> list[Case]:
        ids = self.works.place(count, price=str(AWAY), quantity=10)
        for _ in range(200):
            self.works.look()
            if set(self.house.states(ids)) == {"OPEN"}:
                break
        cases = [Case(order_id, self.terms(), self.draw_fills()) for order_id in ids]
        for case in cases:
            case.number = self.works.broker_id(case.order_id)
            case.had = self.truth(case)
        return cases

    def terms(self) -> dict[str, Any]:
        draw = self.random
        return draw.choice(
            [
                {"quantity": draw.randint(1, 9)},
                {"quantity": draw.randint(11, 30)},
                {"price": str(AWAY - draw.randint(1, 20) * INFY.tick)},
                {"quantity": draw.randint(4, 16), "price": str(AWAY - draw.randint(1, 20) * INFY.tick)},
                {"price": str(CROSSING)},
                {"orderType": "MARKET"},
                {"quantity": draw.randint(11, 30), "price": str(CROSSING)},
            ]
        )

    def draw_fills(self) -> list[tuple[str, int]]:
        draw = self.random
        moments = draw.choices(["before", "during", "after"], k=draw.randint(0, 3))
        return [(moment, draw.choice([1, 1, 2, 2, 3, 4, 6, 9])) for moment in moments]

    def fill(self, cases: Sequence[Case], moment: str) -> None:
        wanted = [(case, quantity) for case in cases for when, quantity in case.fills if when == moment]
        random.Random(f"{SEED}{moment}").shuffle(wanted)
        for case, quantity in wanted:
            with suppress(ValueError):  # it is complete by now, or the exchange doesn't have it
                self.simulator.control("POST", "/fills", {"order_id": case.number, "quantity": quantity})

    def fault(self) -> None:
        for kind in self.random.sample(FAULTS, 3):
            fault = {"kind": kind, "endpoint": "modify", "count": self.random.randint(1, 3)}
            self.simulator.control("POST", "/faults", fault)

    def truth(self, case: Case) -> dict[str, Any]:
        found: dict[str, Any] = self.simulator.control("GET", f"/orders/{case.number}")
        return found

    def judge(self, case: Case) -> None:
        order, truth = self.house.order(case.order_id), self.truth(case)
        said = f"{case.wanted}, fills {case.fills}: {self.house.events(case.order_id)} {truth}"
        assert order.filled_quantity == truth["filled"] == sum(fill["quantity"] for fill in truth["fills"]), said
        assert order.quantity == truth["quantity"], said
        if truth["order_type"] == "LIMIT":
            assert order.price == Decimal(truth["price"]), said
        if truth["final"]:
            assert order.state == ENDS[truth["state"]], said
        else:
            assert order.state == ("PARTIALLY_FILLED" if truth["filled"] else "OPEN"), said
        assert truth["modifications"] <= 1, said
        trades = self.house.rows("select sum(quantity) from trades where order_id = %s", case.order_id)[0][0] or 0
        assert trades == truth["filled"], said
        if case.told is None:
            assert truth["modifications"] == 0, said
            return
        result, is_changed = self.works.result(case.told), self.is_changed(case, truth)
        assert result in ("MODIFIED", "FILLED", "REFUSED", "NOT_APPLIED"), said
        assert result == "FILLED" or is_changed is (result == "MODIFIED"), f"{result}: {said}"

    def is_changed(self, case: Case, truth: dict[str, Any]) -> bool:
        return any(truth[name] != case.had[name] for name in ("quantity", "price", "order_type"))


@pytest.fixture(params=["upstox", "zerodha"])
def race(request: pytest.FixtureRequest, house: House, monkeypatch: pytest.MonkeyPatch) -> Iterator[Race]:
    half_a_day_away = datetime.now(IST) + timedelta(hours=12)
    monkeypatch.setattr(dayends, "SIM_DAY_ENDS", half_a_day_away.time().replace(second=0, microsecond=0))
    monkeypatch.setattr(books.Looks, "take", lambda self: True)  # a day's reads come in minutes here
    with SimulatorServer() as simulator:
        rules = {"rate_limits": False, "day_reset_ist": None, "step_delay_ms": 3, "fill_delay_ms": 1, "trade_gap_ms": 2, "partial_percent": 60}
        simulator.control("PUT", "/settings", rules)
        simulator.control("PUT", f"/prices/{INFY.key}", {"price": str(INFY.close)})
        yield Race(house, simulator, request.param, SEED)


@pytest.mark.timeout(120 + 8 * RACES)
def test_a_modify_that_races_fills_ends_with_the_exchanges_figures(race: Race) -> None:
    left, results = RACES // 2, dict[str, int]()  # half of them at each broker
    while left > 0:
        cases = race.run(min(AT_ONCE, left))
        left -= len(cases)
        for case in cases:
            race.judge(case)
            result = (race.works.result(case.told) if case.told else case.refused) or "none"
            results[str(result)] = results.get(str(result), 0) + 1
        race.house.check()
        print(f"{sum(results.values())} races: {dict(sorted(results.items()))}", flush=True)
    asked = sum(row["count"] for row in race.simulator.control("GET", "/requests") if row["endpoint"] == "modify")
    answered = "count(*) filter (where outcome in ('ACCEPTED', 'REFUSED'))"
    ((sent, told),) = race.house.rows(f"select count(*), {answered} from attempts where kind = 'MODIFY'")  # noqa: S608
    # A call that nobody knows the end of, or that wasn't sent, may never have come; one that was answered has.
    assert told <= asked <= sent
    twice = "select order_id, number / %s from attempts where kind = 'MODIFY' and outcome is distinct from 'NOT_SENT'"
    again = race.house.rows(f"{twice} group by 1, 2 having count(*) > 1", ATTEMPTS_OF_A_SEQ)
    assert again == [], "each modify was called for once, and again only where it was provably not sent"
    assert results.get("MODIFIED"), results
