"""`trader schedules`, `trader order cancel-multi --at` and `trader positions square-off`: what they send, and what they show."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from ops.answers import Placed, Problem
from ops.client import Client

ID = "01a21524-079f-7001-b780-efb520586b08"
SCHEDULE: dict[str, Any] = {
    "scheduleId": ID,
    "kind": "CANCEL",
    "status": "PENDING",
    "request": {"filter": {"strategy": "breakout"}, "mode": "HARD"},
    "lateBySec": 300,
    "createdAt": "2026-11-26T09:00:00Z",
    "times": [
        {
            "at": "2026-11-26T09:40:00Z", "sessions": ["NSE:CASH"], "state": "PENDING", "intentId": None, "matched": None,
            "detail": None, "endedAt": None,
        }
    ],
    "links": {"schedule": f"/v2/schedules/{ID}"},
}  # fmt: skip
CLOSING: dict[str, Any] = {
    "account": "UP0001", "instrument": "NSE:INFY", "product": "MIS", "side": "SELL", "quantity": 10, "price": None,
}  # fmt: skip
NOTHING: dict[str, Any] = {"intentId": None, "orders": [], "left": [], "cancelIntentId": None, "scheduleId": None}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the client was asked for; cancels are answered with a schedule."""
    asked: list[Any] = []

    def cancel(self: Client, request: dict[str, Any], key: str) -> Placed:
        asked.append(request)
        return Placed({**SCHEDULE, "leftOut": ["ZR0001"]}, False)

    monkeypatch.setenv("TRADER_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("TRADER_KEY", "key")
    monkeypatch.setattr(Client, "cancel", cancel)
    return asked


def answering(monkeypatch: pytest.MonkeyPatch, asked: list[Any], *answers: dict[str, Any]) -> None:
    """Square-offs are answered with these, one after another."""
    left = list(answers)

    def square_off(self: Client, request: dict[str, Any], key: str) -> Placed:
        asked.append(request)
        return Placed(left.pop(0), False)

    monkeypatch.setattr(Client, "square_off", square_off)


def test_a_time_of_day_is_todays_in_india(asked, run_trader):
    ran = run_trader("order", "cancel-multi", "--strategy", "breakout", "--at", "15:10", "--late-by", "60", "--yes", "--json")

    (request,) = asked
    at = datetime.fromisoformat(request.pop("at"))
    assert (at.hour, at.minute, str(at.tzinfo)) == (15, 10, "UTC+05:30")
    assert request == {"mode": "HARD", "filter": {"strategy": "breakout"}, "lateBySec": 60}
    assert (ran.code, ran.document["scheduleId"], ran.document["replayed"]) == (0, ID, False)


def test_a_session_s_end_is_asked_for_with_its_minutes(asked, run_trader):
    ran = run_trader("order", "cancel-multi", "--all", "--at-session-end", "--minutes-before", "5", "--yes")

    assert asked == [{"mode": "HARD", "filter": {"all": True}, "atSessionEnd": 5}]
    assert ran.code == 0
    assert "trader schedule remove" in ran.err
    assert "simulated accounts never close: ZR0001" in ran.out
    assert "cancel strategy=breakout" in ran.out


@pytest.mark.parametrize(
    "words",
    [
        ("--at", "15:10", "--at-session-end"),
        ("--minutes-before", "5"),
        ("--late-by", "5"),
        ("--at", "soon"),
        ("--at", "2026-11-26T15:10:00"),
        ("--at", "25:00"),
    ],
)
def test_a_time_that_makes_no_sense_sends_nothing(asked, run_trader, words):
    ran = run_trader("order", "cancel-multi", "--all", *words)

    assert (ran.code, asked) == (2, [])


def test_schedules_are_listed_with_what_came_of_them(asked, run_trader, monkeypatch):
    missed = {**SCHEDULE["times"][0], "state": "MISSED", "detail": "not begun within 300 s of its time"}
    page = {"schedules": [SCHEDULE, {**SCHEDULE, "status": "MISSED", "times": [missed]}], "next": None}
    monkeypatch.setattr(Client, "pages", lambda self, noun, **query: asked.append((noun, query)) or page)

    ran = run_trader("schedules", "--live")

    assert asked == [("schedules", {"limit": 20, "after": None, "live": "true"})]
    assert ran.code == 0
    assert "PENDING" in ran.out
    assert "MISSED  not begun within 300 s of its time" in ran.out


def test_a_schedule_is_taken_back(asked, run_trader, monkeypatch):
    def remove(self: Client, schedule_id: str, key: str) -> Placed:
        asked.append(schedule_id)
        return Placed({**SCHEDULE, "status": "REMOVED"}, False)

    monkeypatch.setattr(Client, "remove_schedule", remove)

    ran = run_trader("schedule", "remove", ID, "--json")

    assert (asked, ran.code, ran.document["status"]) == ([ID], 0, "REMOVED")

    def refuse(self: Client, schedule_id: str, key: str) -> Placed:
        raise Problem(409, {"code": "SCHEDULE_OVER", "detail": "it was carried out"})

    monkeypatch.setattr(Client, "remove_schedule", refuse)
    assert run_trader("schedule", "remove", ID).code == 1


def test_a_dry_run_shows_what_would_be_closed(asked, run_trader, monkeypatch):
    left = {"account": "UP0001", "instrument": "NSE:TCS", "product": "MIS", "quantity": -4, "why": "OPEN_ORDERS"}
    answering(monkeypatch, asked, {**NOTHING, "orders": [CLOSING], "left": [left]})

    ran = run_trader("positions", "square-off", "--account", "UP0001", "--product", "mis", "--dry-run")

    assert asked == [{"filter": {"account": "UP0001", "product": "MIS"}, "dryRun": True}]
    assert ran.code == 0
    assert "1 order would be placed; nothing was done" in ran.out
    assert "4 NSE:TCS MIS of UP0001 stay open" in ran.out


def test_everything_must_be_said(asked, run_trader, monkeypatch):
    answering(monkeypatch, asked, NOTHING)

    assert (run_trader("positions", "square-off").code, asked) == (2, [])
    ran = run_trader("positions", "square-off", "--all", "--limit-distance", "0.5", "--json")
    assert asked == [{"all": True, "orderType": "LIMIT", "distancePercent": "0.5"}]
    assert (ran.code, ran.document["intentId"]) == (0, None)


def test_what_waits_for_cancels_is_not_known_yet(asked, run_trader, monkeypatch):
    answering(monkeypatch, asked, {**NOTHING, "cancelIntentId": ID, "scheduleId": ID})

    ran = run_trader("positions", "square-off", "--all", "--cancel-open", "--yes")

    assert asked == [{"all": True, "cancelOpen": True}]
    assert ran.code == 5
    assert f"schedule {ID}" in " ".join(ran.err.split())


def test_what_open_orders_cover_is_asked_for_before_these_are_cancelled(asked, run_trader, terminal, monkeypatch):
    covered = {"account": "UP0001", "instrument": "NSE:INFY", "product": "MIS", "quantity": 10, "why": "OPEN_ORDERS"}
    answering(monkeypatch, asked, {**NOTHING, "left": [covered]})
    terminal("n\n")

    ran = run_trader("positions", "square-off", "--all", "--cancel-open")

    assert asked == [{"all": True, "cancelOpen": True, "dryRun": True}]
    assert ran.code == 1
    assert "10 NSE:INFY MIS of UP0001: open orders there are cancelled" in " ".join(ran.err.split())


def test_what_stays_with_its_open_orders_needs_no_asking(asked, run_trader, terminal, monkeypatch):
    covered = {"account": "UP0001", "instrument": "NSE:INFY", "product": "MIS", "quantity": 10, "why": "OPEN_ORDERS"}
    answering(monkeypatch, asked, {**NOTHING, "left": [covered]}, {**NOTHING, "left": [covered]})
    terminal("")

    assert run_trader("positions", "square-off", "--all").code == 0
    assert asked == [{"all": True, "dryRun": True}, {"all": True}]


def test_the_orders_that_close_are_followed_as_placed_ones(asked, run_trader, monkeypatch):
    order = {**CLOSING, "line": 0, "correlationId": "close-1", "orderId": ID, "state": "FILLED", "filledQuantity": 10}
    intent = {"intentId": ID, "kind": "PLACE", "status": "DONE", "settled": 1, "total": 1, "orders": [order]}
    answering(monkeypatch, asked, {**NOTHING, "intentId": ID, "orders": [CLOSING]})
    monkeypatch.setattr(Client, "intent", lambda self, intent_id, **query: intent)

    ran = run_trader("positions", "square-off", "--all", "--yes", "--json")

    assert (ran.code, ran.document["intentId"], ran.document["left"], ran.document["replayed"]) == (0, ID, [], False)
