"""Signals over a real server and a real record: a secret in place of a key, one order for two that are the same."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import httpx2
import psycopg
import pytest
from door_server import Server, a_key, let_everything_in, make_key, serving
from shared_services import SharedServices

from domain.ids import new_id
from ingress.signal_forms import (
    DeliveryPage,
    NewSecret,
    SignalRemoved,
    SignalStrategyDefined,
    SignalStrategyList,
    SignalStrategyView,
    SignalTaken,
)
from store.users import Role

FORM: dict[str, Any] = {
    "broker": "UPSTOX",
    "template": {
        "instrument": {"field": "ticker", "prefix": "NSE:", "aliases": {"RELIANCE1!": "NSE:RELIANCE"}},
        "side": {"field": "strategy.order.action", "map": {"buy": "BUY", "sell": "SELL"}},
        "quantity": {"field": "strategy.order.contracts"},
        "product": {"value": "MIS"},
        "orderType": {"field": "type", "default": "MARKET"},
        "price": {"field": "price"},
        "tag": {"field": "comment"},
    },
}


@pytest.fixture(scope="module")
def log(tmp_path_factory) -> Any:
    return tmp_path_factory.mktemp("door")


@pytest.fixture(scope="module")
def door(log, database_url: str, queue_url: str, services: SharedServices) -> Iterator[Server]:
    let_everything_in(database_url)
    with serving(log, database_url=database_url, queue_url=queue_url, redis_url=services.redis_url) as server:
        yield server


@pytest.fixture(scope="module")
def ada(door: Server) -> Iterator[httpx2.Client]:
    with door.client(make_key(door.database_url, "ada", Role.TRADER)) as client:
        yield client


@pytest.fixture(scope="module")
def chart(door: Server) -> Iterator[httpx2.Client]:
    """A charting program: it has no key."""
    with door.client(None) as client:
        yield client


@pytest.fixture
def record(owner_database_url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(owner_database_url, autocommit=True) as connection:
        yield connection


class Strategy:
    """One strategy of ada's, and its address."""

    def __init__(self, ada: httpx2.Client, **form: Any) -> None:
        self.name = f"s{new_id()[-12:]}"
        made = ada.put(f"/v2/signals/{self.name}", json={**FORM, **form}, headers=a_key())
        assert made.status_code == 201, made.text
        told = SignalStrategyDefined.model_validate(made.json())
        assert told.secret is not None
        self.secret, self.path, self.of = told.secret, told.path, f"/v2/signals/{self.name}"

    def body(self, **fields: Any) -> dict[str, Any]:
        order = {"action": "buy", "contracts": 10}
        known = {"ticker": "INFY", "strategy": {"order": order}, "secret": self.secret}
        return {**known, **fields}


@pytest.fixture
def strategy(ada: httpx2.Client) -> Strategy:
    return Strategy(ada)


def received(ada: httpx2.Client, strategy: Strategy) -> list[Any]:
    page = DeliveryPage.model_validate(ada.get(f"{strategy.of}/received?limit=100").json())
    return [delivery.status for delivery in page.signals]


def test_a_signal_becomes_an_order(ada, chart, strategy):
    answer = chart.post(strategy.path, json=strategy.body(comment="long entry ✓"))

    assert answer.status_code == 202, answer.text
    taken = SignalTaken.model_validate(answer.json())
    assert taken.status == "ACCEPTED"
    assert answer.headers["Location"] == f"/v2/intents/{taken.intent_id}"
    (order,) = ada.get(f"/v2/intents/{taken.intent_id}").json()["orders"]
    told = {name: order[name] for name in ("instrument", "side", "quantity", "product", "orderType", "price", "tag")}
    assert told == {
        "instrument": "NSE:INFY",
        "side": "BUY",
        "quantity": 10,
        "product": "MIS",
        "orderType": "MARKET",
        "price": None,
        "tag": "long entry ?",
    }
    assert order["strategy"] == strategy.name


def test_the_same_signal_within_the_window_is_suppressed_and_seen_to_be(ada, chart, strategy, record):
    first = chart.post(strategy.path, json=strategy.body())
    second = chart.post(strategy.path, json=strategy.body())

    assert (first.status_code, second.status_code) == (202, 200)
    taken = SignalTaken.model_validate(second.json())
    assert taken.status == "SUPPRESSED"
    assert str(taken.intent_id) == first.json()["intentId"]
    assert second.json()["signalId"] != first.json()["signalId"]
    page = ada.get(f"{strategy.of}/received").json()["signals"]
    assert [(row["status"], row["intentId"]) for row in page] == [
        ("SUPPRESSED", first.json()["intentId"]),
        ("ACCEPTED", first.json()["intentId"]),
    ]
    assert page[0]["order"]["instrument"] == "NSE:INFY"
    count = record.execute("select count(*) from orders where strategy = %s", (strategy.name,)).fetchone()
    assert count == (1,)


def test_a_nonce_allows_a_repeat_and_itself_none(ada, chart, strategy):
    answers = [chart.post(strategy.path, json=strategy.body(nonce=nonce)) for nonce in ("n1", "n2", "n1")]
    other = chart.post(strategy.path, json=strategy.body(nonce="n1", ticker="TCS"))

    assert [(answer.status_code, answer.json()["status"]) for answer in answers] == [
        (202, "ACCEPTED"),
        (202, "ACCEPTED"),
        (200, "REPLAYED"),
    ]
    assert answers[0].json()["intentId"] == answers[2].json()["intentId"] != answers[1].json()["intentId"]
    assert (other.status_code, other.json()["code"]) == (422, "NONCE_REUSED")
    assert received(ada, strategy) == ["REFUSED", "REPLAYED", "ACCEPTED", "ACCEPTED"]


def test_sixty_four_at_once_are_one_order(door, ada, strategy, record):
    start = threading.Barrier(64)

    def deliver() -> httpx2.Response:
        with door.client(None) as client:
            start.wait()
            return client.post(strategy.path, json=strategy.body())

    with ThreadPoolExecutor(64) as pool:
        answers = [task.result() for task in [pool.submit(deliver) for _ in range(64)]]

    assert sorted(answer.status_code for answer in answers) == [200] * 63 + [202]
    assert len({answer.json()["intentId"] for answer in answers}) == 1
    count = record.execute("select count(*) from orders where strategy = %s", (strategy.name,)).fetchone()
    assert count == (1,)
    assert sorted(received(ada, strategy)) == ["ACCEPTED"] + ["SUPPRESSED"] * 63
    first = ada.get(f"{strategy.of}/received?limit=40").json()
    rest = ada.get(f"{strategy.of}/received", params={"limit": 40, "after": first["next"]}).json()
    assert len({row["signalId"] for row in first["signals"] + rest["signals"]}) == 64
    assert rest["next"] is None


@pytest.mark.parametrize("place", ["header", "query", "body"])
def test_the_secret_may_come_in_three_places(chart, strategy, place):
    body = {name: of for name, of in strategy.body(nonce=place).items() if name != "secret" or place == "body"}
    headers = {"X-Signal-Secret": strategy.secret} if place == "header" else {}
    query = f"?secret={strategy.secret}" if place == "query" else ""

    assert chart.post(strategy.path + query, json=body, headers=headers).status_code == 202


def test_an_order_is_given_up_after_the_strategys_own_time(ada, chart):
    strategy = Strategy(ada, maxUnsentSec=30)
    intent = chart.post(strategy.path, json=strategy.body()).headers["Location"]
    (order,) = ada.get(intent).json()["orders"]

    accepted, until = (datetime.fromisoformat(order[name]) for name in ("acceptedAt", "sendBefore"))
    assert (until - accepted).total_seconds() == 30


def test_a_form_and_a_text_that_is_one_are_taken_as_well(ada, chart):
    template = {
        **FORM["template"],
        "side": {"field": "action"},
        "quantity": {"field": "qty"},
        "orderType": {"value": "LIMIT"},
    }
    strategy = Strategy(ada, template=template)
    form = f"secret={strategy.secret}&ticker=INFY&action=Sell&qty=5.0&price=1120.5"
    typed = {"Content-Type": "application/x-www-form-urlencoded"}

    answers = [
        chart.post(strategy.path, content=form, headers=typed),
        chart.post(strategy.path, content=form, headers={"Content-Type": "text/plain"}),
        chart.post(strategy.path, content=form),
        chart.post(strategy.path, content=json.dumps({**dict(part.split("=") for part in form.split("&"))})),
    ]

    assert [answer.status_code for answer in answers] == [202, 200, 200, 200]
    (order,) = ada.get(answers[0].headers["Location"]).json()["orders"]
    assert (order["side"], order["quantity"], order["price"]) == ("SELL", 5, "1120.50")


def another_than(secret: str) -> str:
    """As long as the secret, and not it: another last character."""
    return secret[:-1] + ("x" if secret[-1] != "x" else "y")


def test_a_wrong_secret_and_no_such_strategy_are_told_with_the_same_words(ada, chart, strategy, record):
    before = record.execute("select count(*) from signals").fetchone()
    right = strategy.body()
    answers = [
        chart.post(strategy.path, json={**right, "secret": another_than(strategy.secret)}),
        chart.post(strategy.path, json={**right, "secret": None}),
        chart.post(strategy.path + "x", json=right),
        chart.post("/signals/nobody/nothing", json=right),
        chart.post(strategy.path, content=b"\xff\xfe{"),
        chart.post("/signals/a%00b/n", json=right),
    ]

    assert {answer.status_code for answer in answers} == {401}
    assert len({(answer.json()["code"], answer.json()["detail"], answer.json()["title"]) for answer in answers}) == 1
    assert record.execute("select count(*) from signals").fetchone() == before


def test_wrong_secrets_are_slowed_down_and_harm_no_right_one(chart, strategy):
    wrong = {**strategy.body(), "secret": "sig_" + "x" * 32}
    answers = [chart.post(strategy.path, json=wrong) for _ in range(30)]

    assert {answer.status_code for answer in answers} == {401, 429}
    assert {answer.headers["Retry-After"] for answer in answers if answer.status_code == 429} == {"1"}
    assert chart.post(strategy.path, json=strategy.body()).status_code == 202


@pytest.mark.parametrize(
    ("fields", "pointer", "code"),
    [
        ({"ticker": None}, "/ticker", "REQUIRED"),
        ({"ticker": "IN FY"}, "/ticker", "BAD_VALUE"),
        ({"ticker": {"a": 1}}, "/ticker", "NOT_A_VALUE"),
        ({"strategy": {"order": {"contracts": 1}}}, "/strategy/order/action", "REQUIRED"),
        ({"strategy": {"order": {"action": "hold", "contracts": 1}}}, "/strategy/order/action", "NOT_IN_MAP"),
        ({"strategy": {"order": {"action": "buy", "contracts": 1.5}}}, "/strategy/order/contracts", "BAD_VALUE"),
        ({"strategy": {"order": {"action": "buy", "contracts": -1}}}, "/strategy/order/contracts", "BAD_VALUE"),
        ({"type": "LIMIT"}, "/price", "REQUIRED"),
        ({"type": "LIMIT", "price": "1e3"}, "/price", "BAD_VALUE"),
        ({"type": "ICEBERG"}, "/type", "BAD_VALUE"),
        ({"nonce": ["n"]}, "/nonce", "BAD_VALUE"),
    ],
)
def test_a_signal_that_makes_no_order_says_which_field(ada, chart, strategy, fields, pointer, code):
    answer = chart.post(strategy.path, json=strategy.body(**fields))

    assert (answer.status_code, answer.json()["code"]) == (422, "MALFORMED")
    assert [(fault["pointer"], fault["code"]) for fault in answer.json()["errors"]] == [(pointer, code)]
    (row,) = ada.get(f"{strategy.of}/received").json()["signals"]
    assert (row["status"], row["reason"]["code"]) == ("REFUSED", "MALFORMED")
    assert pointer in row["reason"]["text"]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "MALFORMED_JSON"),
        (b"[1]", 400, "MALFORMED_JSON"),
        (b"hello", 400, "MALFORMED_JSON"),
        (b'{"a": 1, "a": 2}', 400, "DUPLICATE_FIELD"),
        (b'{"a": NaN}', 400, "MALFORMED_JSON"),
        (b'{"a": ' + b"[" * 30_000, 400, "MALFORMED_JSON"),
        (b"\xff", 400, "MALFORMED_JSON"),
        (b'{"price": 1e999999999, "contracts": ' + b"9" * 5000 + b"}", 400, "MALFORMED_JSON"),
        (b'{"ticker": "' + b"x" * 66_000 + b'"}', 413, "BODY_TOO_LARGE"),
    ],
    ids=["cut", "list", "words", "twice", "nan", "deep", "bytes", "huge number", "huge"],
)
def test_bad_bodies_are_refused_and_nothing_is_stored(chart, strategy, record, body, status, code):
    answer = chart.post(strategy.path, content=body, headers={"X-Signal-Secret": strategy.secret})

    assert (answer.status_code, answer.json()["code"]) == (status, code)
    count = record.execute("select count(*) from orders where strategy = %s", (strategy.name,)).fetchone()
    assert count == (0,)


def test_a_strategy_is_seen_changed_switched_off_and_removed(ada, chart, strategy):
    SignalStrategyView.model_validate(ada.get(strategy.of).json())
    listed = SignalStrategyList.model_validate(ada.get("/v2/signals").json())
    assert strategy.name in {one.name for one in listed.strategies}

    changed = ada.put(strategy.of, json={**FORM, "enabled": False, "windowSec": 5}, headers=a_key())
    assert (changed.status_code, changed.json()["secret"], changed.json()["version"]) == (200, None, 2)
    off = chart.post(strategy.path, json=strategy.body())
    assert (off.status_code, off.json()["code"]) == (409, "SIGNALS_DISABLED")
    assert received(ada, strategy) == ["REFUSED"]

    removed = ada.request("DELETE", strategy.of, headers=a_key())
    SignalRemoved.model_validate(removed.json())
    assert chart.post(strategy.path, json=strategy.body()).status_code == 401
    assert ada.get(strategy.of).status_code == ada.get(f"{strategy.of}/received").status_code == 404
    assert ada.request("DELETE", strategy.of, headers=a_key()).status_code == 404


def test_a_new_secret_ends_the_old_one(ada, chart, strategy):
    rotated = ada.post(f"{strategy.of}/rotate", headers=a_key())
    fresh = NewSecret.model_validate(rotated.json()).secret

    assert chart.post(strategy.path, json=strategy.body()).status_code == 401
    assert chart.post(strategy.path, json=strategy.body(secret=fresh)).status_code == 202


def test_a_repeated_request_gets_its_answer_again_and_makes_nothing_more(ada, record):
    key, path = a_key(), f"/v2/signals/s{new_id()[-12:]}"
    first, again = (ada.put(path, json=FORM, headers=key) for _ in range(2))
    other = ada.put(path, json={**FORM, "windowSec": 5}, headers=key)

    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json()
    assert again.headers["Idempotency-Replayed"] == "true"
    assert (other.status_code, other.json()["code"]) == (422, "IDEMPOTENCY_KEY_REUSED")
    assert ada.put(path, json=FORM).json()["code"] == "IDEMPOTENCY_KEY_MISSING"
    assert ada.post(f"{path}/rotate").json()["code"] == "IDEMPOTENCY_KEY_MISSING"
    assert ada.request("DELETE", path).json()["code"] == "IDEMPOTENCY_KEY_MISSING"


@pytest.mark.parametrize(
    ("template", "pointer"),
    [
        ({"side": {"value": "LONG"}}, "/template/side/value"),
        ({"side": {"field": "a", "map": {"buy": "LONG"}}}, "/template/side/map/buy"),
        ({"side": {"field": "a", "map": {"buy": "BUY"}, "default": "sell"}}, "/template/side/default"),
        ({"side": {}}, "/template/side"),
        ({"side": {"field": "a", "value": "BUY"}}, "/template/side"),
        ({"tag": {"field": "secret"}}, "/template/tag"),
        ({"quantity": {"value": 0}}, "/template/quantity/value"),
        ({"price": {"value": "12.123456"}}, "/template/price/value"),
        ({"orderType": {"value": "SL"}, "price": {"field": "p"}}, "/template/triggerPrice"),
        ({"instrument": {"field": "t", "aliases": {"a/b": "INFY"}}}, "/template/instrument/aliases/a~1b"),
        ({"colour": {"value": "red"}}, "/template/colour"),
    ],
)
def test_a_template_that_can_make_no_order_is_refused(ada, template, pointer):
    path = f"/v2/signals/s{new_id()[-12:]}"
    form = {**FORM, "template": {**FORM["template"], **template}}

    answer = ada.put(path, json=form, headers=a_key())

    assert (answer.status_code, answer.json()["code"]) == (422, "MALFORMED"), answer.text
    assert [fault["pointer"] for fault in answer.json()["errors"]] == [pointer]
    assert ada.get(path).status_code == 404


def test_nobody_sees_or_changes_anothers_strategy(door, strategy):
    with door.client(make_key(door.database_url, "eve", Role.TRADER)) as eve:
        assert eve.get(strategy.of).status_code == eve.get(f"{strategy.of}/received").status_code == 404
        assert eve.post(f"{strategy.of}/rotate", headers=a_key()).status_code == 404
        assert eve.request("DELETE", strategy.of, headers=a_key()).status_code == 404
        assert eve.get("/v2/signals").json() == {"strategies": []}
        mine = eve.put(strategy.of, json=FORM, headers=a_key()).json()
        assert mine["path"] == f"/signals/eve/{strategy.name}"
    with door.client(make_key(door.database_url, "audrey", Role.AUDITOR)) as audrey:
        assert audrey.put(strategy.of, json=FORM, headers=a_key()).status_code == 403
    with door.client(None) as nobody:
        assert nobody.get("/v2/signals").status_code == 401


def test_while_nothing_new_is_let_in_a_signal_is_refused_and_seen_to_be(ada, chart, strategy, record):
    chart.post(strategy.path, json=strategy.body())
    record.execute("update settings set value = '0.05' where name = 'admission_age_s'")
    try:
        deadline = time.monotonic() + 10
        while (answer := chart.post(strategy.path, json=strategy.body(nonce=new_id()))).status_code != 503:
            assert time.monotonic() < deadline
    finally:
        record.execute("update settings set value = '86400' where name = 'admission_age_s'")
        while chart.post(strategy.path, json=strategy.body(nonce=new_id())).status_code != 202:
            assert time.monotonic() < deadline + 20
    assert answer.json()["code"] == "OVERLOADED"
    assert answer.headers["Retry-After"] == "1"
    assert "REFUSED" in received(ada, strategy)


def test_no_secret_is_in_any_row_or_log(ada, chart, strategy, record, log):
    chart.post(strategy.path, json=strategy.body(comment=f"my {strategy.secret}"))
    chart.post(f"{strategy.path}?secret={strategy.secret}", json={"ticker": strategy.secret})
    chart.post(strategy.path, json=strategy.body(nonce=strategy.secret))
    chart.post(strategy.path, json=strategy.body(strategy={"order": {"action": strategy.secret, "contracts": "x"}}))
    refused = ada.get(f"{strategy.of}/received")
    fresh = ada.post(f"{strategy.of}/rotate", headers=a_key()).json()["secret"]

    assert [row["status"] for row in refused.json()["signals"]] == ["REFUSED"] * 4
    tables = record.execute(
        "select relname from pg_class where relkind in ('r', 'p') and not relispartition"
        " and relnamespace = 'public'::regnamespace"
    ).fetchall()
    for (table,) in tables:
        for secret in (strategy.secret, fresh):
            found = record.execute(
                f"select count(*) from {table} t where t::text like %s",  # noqa: S608
                (f"%{secret}%",),
            ).fetchone()
            assert found == (0,), table
    for secret in (strategy.secret, fresh):
        assert secret not in refused.text
        assert all(secret not in path.read_text() for path in log.glob("*.log"))
