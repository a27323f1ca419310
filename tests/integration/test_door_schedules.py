"""Schedules and square-offs over a real server and a real record: durable once, told as they are, nobody else's."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import psycopg
import pytest
from door_server import PLACE, Server, a_key, a_line, a_request, let_everything_in, make_key, serving
from shared_services import SharedServices

from domain.ids import new_id
from ingress.schedule_forms import AcceptedSchedule, SchedulePage, ScheduleView, SquaredOffView
from store.users import Role

CANCEL, SQUARE_OFF, SCHEDULES = "/v2/orders/multi/cancel", "/v2/positions/square-off", "/v2/schedules"


@pytest.fixture(scope="module")
def door(tmp_path_factory, database_url: str, queue_url: str, services: SharedServices) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("door")
    let_everything_in(database_url)
    with serving(folder, database_url=database_url, queue_url=queue_url, redis_url=services.redis_url) as server:
        yield server


@pytest.fixture
def record(owner_database_url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(owner_database_url, autocommit=True) as connection:
        yield connection


@pytest.fixture
def mia(door: Server) -> Iterator[httpx2.Client]:
    """A trader with nothing yet."""
    with door.client(make_key(door.database_url, f"mia-{new_id()}", Role.TRADER)) as client:
        yield client


def ahead(**span: float) -> str:
    return (datetime.now(UTC) + timedelta(**span)).isoformat(timespec="seconds")


def schedule(client: httpx2.Client, key: dict[str, str] | None = None, **wanted: Any) -> httpx2.Response:
    body = {"filter": {"all": True}, "at": ahead(hours=1)} | wanted
    return client.post(CANCEL, json={name: value for name, value in body.items() if value is not None}, headers=key or a_key())


def faults(answer: httpx2.Response) -> list[tuple[str, str]]:
    assert answer.status_code == 422, answer.text
    return [(fault["pointer"], fault["code"]) for fault in answer.json()["errors"]]


def an_account(record: psycopg.Connection, client: httpx2.Client) -> str:
    """An account of the client's user, as an operator would open it."""
    order_id = client.post(PLACE, json=a_request(), headers=a_key()).json()["orders"][0]["orderId"]
    record.execute("update orders set state = 'REJECTED' where id = %s", (order_id,))
    record.execute("update commands set state = 'DONE', live = false, done_at = now() where order_id = %s", (order_id,))
    name = f"A-{new_id()[-8:]}"
    record.execute(
        "insert into accounts (id, user_id, broker, calendar, credentials, is_default, limit_paise)"
        " select %s, user_id, 'upstox', 'SIM', '', true, 1000000000 from orders where id = %s",
        (name, order_id),
    )
    return name


def bought(record: psycopg.Connection, client: httpx2.Client, account: str, quantity: int = 10) -> None:
    """A position of that many NSE:INFY."""
    line = a_line(product="MIS", quantity=quantity, account=account)
    order_id = client.post(PLACE, json=a_request(line), headers=a_key()).json()["orders"][0]["orderId"]
    record.execute(
        "update orders set state = 'FILLED', filled_quantity = quantity, account_id = %s, broker = 'upstox' where id = %s",
        (account, order_id),
    )
    record.execute(
        "insert into trades (order_id, exchange, trade_id, user_id, broker, account_id, instrument, side, quantity, price, at)"
        " select id, 'NSE', 't1', user_id, 'upstox', account_id, instrument, side, quantity, 1500, now() from orders where id = %s",
        (order_id,),
    )


def wait_for_directory(client: httpx2.Client, wanted: dict[str, Any]) -> httpx2.Response:
    """The dry run's answer, as soon as the door's processes know the account."""
    deadline = datetime.now(UTC) + timedelta(seconds=10)
    while (answer := client.post(SQUARE_OFF, json=wanted | {"dryRun": True}, headers=a_key())).status_code == 404:
        assert datetime.now(UTC) < deadline, answer.text
    return answer


def test_a_cancel_with_a_time_is_a_schedule_and_cancels_nothing_now(mia: httpx2.Client, record: psycopg.Connection) -> None:
    order_id = mia.post(PLACE, json=a_request(), headers=a_key()).json()["orders"][0]["orderId"]
    key = a_key()
    when = ahead(hours=1)

    answer, again = schedule(mia, key, at=when), schedule(mia, key, at=when)

    assert answer.status_code == 202
    told = AcceptedSchedule.model_validate(answer.json())
    assert (told.status, len(told.times), told.times[0].sessions) == ("PENDING", 1, None)
    assert told.times[0].at == datetime.fromisoformat(when)
    assert again.json() == answer.json()
    assert again.headers["Idempotency-Replayed"] == "true"
    assert answer.headers["Location"] == answer.json()["links"]["schedule"]
    assert schedule(mia, key, at=ahead(hours=2)).json()["code"] == "IDEMPOTENCY_KEY_REUSED"
    assert record.execute("select cancel_requested from orders where id = %s", (order_id,)).fetchone() == (False,)


def test_a_schedules_key_cancels_nothing_at_once_and_a_cancels_key_schedules_nothing(
    mia: httpx2.Client, record: psycopg.Connection
) -> None:
    order_id = mia.post(PLACE, json=a_request(), headers=a_key()).json()["orders"][0]["orderId"]
    everything, scheduled, cancelled, setting = {"filter": {"all": True}}, a_key(), a_key(), a_key()
    assert schedule(mia, scheduled).status_code == 202
    assert mia.patch("/v2/settings", json={"allowPartialMultiOrder": False}, headers=setting).status_code == 200

    refused = [mia.post(CANCEL, json=everything, headers=key) for key in (scheduled, setting)]
    refused += [mia.delete(f"/v2/orders/{order_id}", headers=scheduled), mia.post(PLACE, json=a_request(), headers=scheduled)]
    assert {(answer.status_code, answer.json()["code"]) for answer in refused} == {(422, "IDEMPOTENCY_KEY_REUSED")}
    assert record.execute("select cancel_requested from orders where id = %s", (order_id,)).fetchone() == (False,)

    assert mia.post(CANCEL, json=everything, headers=cancelled).status_code == 202
    assert schedule(mia, cancelled).json()["code"] == "IDEMPOTENCY_KEY_REUSED"
    assert [one["kind"] for one in mia.get("/v2/intents").json()["intents"]] == ["CANCEL", "PLACE"]


def test_schedules_are_listed_shown_and_taken_back(mia: httpx2.Client, door: Server) -> None:
    ids = [schedule(mia).json()["scheduleId"] for _ in range(3)]

    first = mia.get(SCHEDULES, params={"limit": 2}).json()
    second = mia.get(SCHEDULES, params={"limit": 2, "after": first["next"]}).json()
    assert [one["scheduleId"] for one in first["schedules"] + second["schedules"]] == ids[::-1]
    SchedulePage.model_validate(first)
    assert second["next"] is None

    key = a_key()
    removed, again = (mia.delete(f"{SCHEDULES}/{ids[0]}", headers=key) for _ in range(2))
    assert (removed.status_code, removed.json()["status"]) == (200, "REMOVED")
    assert (again.json(), again.headers["Idempotency-Replayed"]) == (removed.json(), "true")
    assert mia.delete(f"{SCHEDULES}/{ids[0]}", headers=a_key()).json()["code"] == "SCHEDULE_OVER"
    assert mia.delete(f"{SCHEDULES}/{ids[1]}").json()["code"] == "IDEMPOTENCY_KEY_MISSING"
    assert mia.get(f"{SCHEDULES}/{ids[0]}").json()["status"] == "REMOVED"
    ScheduleView.model_validate(mia.get(f"{SCHEDULES}/{ids[1]}").json())
    assert [one["scheduleId"] for one in mia.get(SCHEDULES, params={"live": "true"}).json()["schedules"]] == ids[:0:-1]
    assert mia.get(SCHEDULES, params={"live": "yes"}).status_code == 400

    with door.client(make_key(door.database_url, f"eve-{new_id()}", Role.TRADER)) as eve:
        assert eve.get(f"{SCHEDULES}/{ids[1]}").status_code == 404
        assert eve.delete(f"{SCHEDULES}/{ids[1]}", headers=a_key()).status_code == 404
        assert eve.get(SCHEDULES).json() == {"schedules": [], "next": None}
    with door.client(make_key(door.database_url, "auditor", Role.AUDITOR)) as auditor:
        assert auditor.get(f"{SCHEDULES}/{ids[1]}").status_code == 200
        assert auditor.delete(f"{SCHEDULES}/{ids[1]}", headers=a_key()).status_code == 403
        assert schedule(auditor).status_code == 403


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ({"at": "2020-01-01T00:00:00Z"}, ("/at", "IN_THE_PAST")),
        ({"at": "2026-11-26T15:10:00"}, ("/at", "BAD_FORM")),
        ({"at": "tomorrow"}, ("/at", "BAD_FORM")),
        ({"at": "2026-13-45T25:61:00Z"}, ("/at", "BAD_VALUE")),
        ({"at": 1_800_000_000}, ("/at", "NOT_A_STRING")),
        ({"at": ahead(days=31)}, ("/at", "TOO_LARGE")),
        ({"atSessionEnd": 5}, ("/atSessionEnd", "CONTRADICTS")),
        ({"at": None, "atSessionEnd": 241}, ("/atSessionEnd", "TOO_LARGE")),
        ({"at": None, "lateBySec": 5}, ("/lateBySec", "BAD_VALUE")),
        ({"policy": "FAIL_FAST"}, ("/policy", "BAD_VALUE")),
        ({"filter": {}}, ("/filter", "EMPTY_FILTER")),
    ],
)
def test_a_time_that_makes_no_sense_is_told_where_it_stands(mia: httpx2.Client, wanted: dict[str, Any], told: tuple[str, str]) -> None:
    assert faults(schedule(mia, **wanted)) == [told]
    assert mia.get(SCHEDULES).json()["schedules"] == []


def test_simulated_accounts_have_no_session_end(mia: httpx2.Client, record: psycopg.Connection) -> None:
    account = an_account(record, mia)
    wait_for_directory(mia, {"filter": {"account": account}})

    answer = schedule(mia, at=None, atSessionEnd=5)

    assert faults(answer) == [("/atSessionEnd", "NO_SESSION_END")]
    assert account in answer.json()["errors"][0]["detail"]


def test_a_preview_of_a_cancel_takes_no_time(mia: httpx2.Client) -> None:
    answer = mia.post(f"{CANCEL}/preview", json={"filter": {"all": True}, "at": ahead(hours=1)})

    assert faults(answer) == [("/at", "UNKNOWN_FIELD")]


def test_positions_are_closed_once_however_often_it_is_asked(mia: httpx2.Client, record: psycopg.Connection) -> None:
    account = an_account(record, mia)
    bought(record, mia, account)
    wanted = {"filter": {"account": account}}
    dry = wait_for_directory(mia, wanted)
    key = a_key()

    answer, again = (mia.post(SQUARE_OFF, json=wanted, headers=key) for _ in range(2))
    other = mia.post(SQUARE_OFF, json=wanted, headers=a_key())

    assert (dry.status_code, dry.json()["intentId"], dry.json()["orders"][0]["quantity"]) == (200, None, 10)
    told = SquaredOffView.model_validate(answer.json())
    assert answer.status_code == 202
    assert [(one.account, one.side, one.quantity, one.product) for one in told.orders] == [(account, "SELL", 10, "MIS")]
    assert answer.headers["Location"] == f"/v2/intents/{told.intent_id}"
    assert again.json() == answer.json()
    assert again.headers["Idempotency-Replayed"] == "true"
    assert (other.status_code, other.json()["intentId"], other.json()["left"][0]["why"]) == (200, None, "OPEN_ORDERS")
    intent = mia.get(answer.headers["Location"]).json()
    assert [order["orderId"] for order in intent["orders"]] == [str(told.orders[0].order_id)]
    assert mia.post(SQUARE_OFF, json=wanted | {"cancelOpen": True}, headers=key).json()["code"] == "IDEMPOTENCY_KEY_REUSED"


def test_open_orders_are_cancelled_first_where_that_is_wanted(mia: httpx2.Client, record: psycopg.Connection) -> None:
    account = an_account(record, mia)
    bought(record, mia, account)
    stop = a_line(product="MIS", side="SELL", account=account)
    order_id = mia.post(PLACE, json=a_request(stop), headers=a_key()).json()["orders"][0]["orderId"]
    wanted = {"filter": {"account": account}, "cancelOpen": True}
    wait_for_directory(mia, wanted)
    key = a_key()

    answer, again = (mia.post(SQUARE_OFF, json=wanted, headers=key) for _ in range(2))

    told = SquaredOffView.model_validate(answer.json())
    assert (answer.status_code, told.intent_id, told.orders) == (202, None, [])
    assert again.json() == answer.json()
    changes = mia.get(f"/v2/intents/{told.cancel_intent_id}").json()["changes"]
    assert [line["orderId"] for line in changes] == [order_id]
    assert mia.get(f"{SCHEDULES}/{told.schedule_id}").json()["kind"] == "SQUARE_OFF"


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({}, ("/all", "REQUIRED")),
        ({"filter": {"nothing": 1}}, ("/filter/nothing", "UNKNOWN_FIELD")),
        ({"filter": {"product": "SHORT"}}, ("/filter/product", "NOT_ONE_OF")),
        ({"all": 1}, ("/all", "BAD_VALUE")),
        ({"all": True, "orderType": "LIMIT"}, ("/distancePercent", "REQUIRED")),
        ({"all": True, "orderType": "SL"}, ("/orderType", "BAD_VALUE")),
        ({"all": True, "marketProtection": "1e1"}, ("/marketProtection", "NOT_A_DECIMAL")),
    ],
)
def test_what_is_not_said_is_not_meant(mia: httpx2.Client, body: dict[str, Any], told: tuple[str, str]) -> None:
    assert faults(mia.post(SQUARE_OFF, json=body, headers=a_key())) == [told]


def test_nothing_to_close_is_an_empty_answer(mia: httpx2.Client) -> None:
    answer = mia.post(SQUARE_OFF, json={"all": True}, headers=a_key())

    assert (answer.status_code, answer.json()["orders"], answer.json()["left"]) == (200, [], [])
    assert mia.post(SQUARE_OFF, json={"filter": {"account": "XX1"}}, headers=a_key()).status_code == 404
    assert mia.post(SQUARE_OFF, json={"all": True}).json()["code"] == "IDEMPOTENCY_KEY_MISSING"
