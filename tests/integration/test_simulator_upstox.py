"""Upstox's dialect over the wire, beyond what its SDK shows."""

from __future__ import annotations

import gzip
import json

import pytest
from simulator_client import INFY, PRICE, RESTING, UPSTOX_LINE, a_client, a_listener, until
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect


@pytest.fixture
def client():
    with a_client() as client:
        yield client


def lines(*changes):
    return [UPSTOX_LINE | {"correlation_id": f"L{n}", "tag": f"t{n}"} | change for n, change in enumerate(changes)]


def multi(client, *changes):
    return client.upstox("POST", "/v2/order/multi/place", lines(*changes))


def test_buys_go_before_sells(client):
    status, body = multi(client, {"transaction_type": "SELL"}, {}, {"transaction_type": "SELL"}, {})

    assert (status, [row["correlation_id"] for row in body["data"]]) == (200, ["L1", "L3", "L0", "L2"])
    assert client.tags() == ["t1", "t3", "t0", "t2"]


def test_some_lines_may_fail_alone(client):
    client.control("POST", "/faults", {"kind": "refuse_lines", "lines": [1], "code": "UDAPI100500"})

    status, body = multi(client, {}, {}, {})

    assert (status, body["status"]) == (207, "partial_success")
    assert body["summary"] == {"total": 3, "payload_error": 0, "success": 2, "error": 1}
    (error,) = body["errors"]
    assert (error["correlation_id"], error["error_code"], error["errorCode"]) == ("L1", "UDAPI100500", "UDAPI100500")
    assert client.tags() == ["t0", "t2"]


def test_one_bad_line_keeps_all_from_being_sent(client):
    status, body = multi(client, {}, {"quantity": 0}, {"instrument_token": "NSE_EQ|BAD"})

    assert (status, body["status"], body["data"]) == (400, "error", [])
    assert [(row["correlation_id"], row["error_code"]) for row in body["errors"]] == [
        ("L1", "UDAPI1052"),
        ("L2", "UDAPI100011"),
    ]
    assert body["summary"] == {"total": 3, "payload_error": 2, "success": 0, "error": 0}
    assert client.tags() == []


@pytest.mark.parametrize(("changes", "code"), [
    ([], "UDAPI1114"),
    ([{"correlation_id": ""}], "UDAPI1115"),
    ([{"correlation_id": "x" * 21}], "UDAPI1116"),
    ([{"correlation_id": "A"}, {"correlation_id": "A"}], "UDAPI1117"),
    ([{}] * 11, "UDAPI1118"),
    ([{"slice": True, "quantity": INFY.freeze_quantity * 10}, {}], "UDAPI1118"),
])  # fmt: skip
def test_a_batch_is_refused_with_its_code(client, changes, code):
    status, body = multi(client, *changes)

    assert (status, body["errors"][0]["error_code"]) == (400, code)
    assert client.tags() == []


def test_slices_are_named_after_their_line_and_share_its_tag(client):
    status, body = multi(client, {"slice": True, "quantity": INFY.freeze_quantity + 1}, {})

    assert (status, [row["correlation_id"] for row in body["data"]]) == (200, ["L0_1", "L0_2", "L1"])
    assert client.tags() == ["t0", "t0", "t1"]


def test_correlation_ids_are_nowhere_afterwards(client):
    multi(client, {})

    assert "L0" not in json.dumps(client.upstox("GET", "/v2/order/retrieve-all")[1])


def test_a_multi_counts_its_lines_against_the_rate_limit(client):
    client.control("PUT", "/settings", {"rate_limits": True, "upstox": {"orders": {"86400": 10}, "reads": {}}})

    assert multi(client, *[{}] * 8)[0] == 200
    assert client.place_upstox()[0] == 200
    status, body = multi(client, {}, {})
    assert (status, body["errors"][0]["error_code"]) == (429, "UDAPI10005")
    assert client.place_upstox()[0] == 200
    assert client.place_upstox()[0] == 429
    assert client.upstox("GET", "/v2/order/retrieve-all")[0] == 200


def test_the_default_limit_is_ten_a_second(client):
    client.control("PUT", "/settings", {"rate_limits": True})
    statuses = [client.place_upstox()[0] for _ in range(100)]

    assert 429 in statuses
    assert statuses[:10] == [200] * 10


def test_what_the_broker_refuses_after_a_receipt_shows_as_rejected(client):
    status, _ = client.place_upstox(tag="big", quantity=INFY.freeze_quantity + 1)
    assert status == 200

    row = until(lambda: _row(client, "big", "rejected"))

    assert "freeze quantity" in row["status_message"]
    assert row["exchange_order_id"] == ""


def test_trades_of_other_days_are_still_told(client):
    client.place_upstox(tag="kept")
    until(lambda: _row(client, "kept", "complete"))
    client.control("POST", "/reset", {"what": ["day"]})
    assert client.upstox("GET", "/v2/order/retrieve-all")[1]["data"] == []

    query = "start_date=2020-01-01&end_date=2099-01-01&page_number=1&page_size=10&segment=EQ"
    status, body = client.upstox("GET", f"/v2/charges/historical-trades?{query}")

    assert (status, [row["quantity"] for row in body["data"]]) == (200, [10])
    assert body["meta_data"]["page"]["total_records"] == 1


def test_a_token_dies_and_a_login_brings_it_back(client):
    client.control("PUT", "/accounts/UP0001", {"token_alive": False})
    assert client.place_upstox()[0] == 401

    connection_form = "code=abc&client_id=sim-upstox-key&client_secret=sim-upstox-secret&grant_type=authorization_code"
    status, body = client._call("upstox", "POST", "/v2/login/authorization/token", connection_form, {})

    assert (status, body["access_token"]) == (200, "sim-upstox-token")
    assert client.place_upstox()[0] == 200


def test_accounts_are_made_on_demand_and_see_only_their_own(client):
    made = client.control("POST", "/accounts", {"facade": "upstox", "count": 2})
    assert [row["user_id"] for row in made] == ["UP0002", "UP0003"]
    client.place_upstox(tag="mine")

    status, body = client.upstox("GET", "/v2/order/retrieve-all", token=made[0]["access_token"])

    assert (status, body["data"]) == (200, [])


def test_webhooks_tell_every_state(client):
    with a_listener() as (url, heard):
        client.control("PUT", "/postbacks", {"url": url, "user_id": "UP0001"})
        client.place_upstox(tag="told")
        until(lambda: heard and heard[-1]["status"] == "complete")

    assert [row["status"] for row in heard] == [
        "put order req received",
        "validation pending",
        "open pending",
        "open",
        "complete",
    ]
    assert heard[0]["update_type"] == "order"


@pytest.mark.parametrize(("kind", "expected"), [
    ("postback_missing", [1, 2, 3, 4]),
    ("postback_repeated", [0, 0, 1, 2, 3, 4]),
    ("postback_reordered", [1, 0, 2, 3, 4]),
])  # fmt: skip
def test_webhooks_can_go_wrong(client, kind, expected):
    states = ["put order req received", "validation pending", "open pending", "open", "complete"]
    with a_listener() as (url, heard):
        client.control("PUT", "/postbacks", {"url": url, "user_id": "UP0001"})
        client.control("POST", "/faults", {"kind": kind, "endpoint": "postback"})
        client.place_upstox()
        until(lambda: heard and heard[-1]["status"] == "complete")

    assert [row["status"] for row in heard] == [states[n] for n in expected]


def test_a_streams_code_opens_it_once(client):
    _, body = client.upstox("GET", "/v2/feed/portfolio-stream-feed/authorize?update_types=order")
    address = body["data"]["authorized_redirect_uri"]
    assert address == body["data"]["authorizedRedirectUri"]

    with connect(address) as stream:
        client.place_upstox(tag="streamed")
        assert json.loads(stream.recv(timeout=5))["tag"] == "streamed"
    with pytest.raises(InvalidStatus), connect(address):
        pass


def test_the_instruments_file_lists_what_can_be_traded(client):
    status, body = client.upstox("GET", "/market-quote/instruments/exchange/NSE.json.gz")
    rows = {row["instrument_key"]: row for row in json.loads(gzip.decompress(body))}

    assert status == 200
    assert rows[f"NSE_EQ|{INFY.isin}"]["tick_size"] == float(INFY.tick * 100)
    assert any(row["instrument_type"] == "FUT" for row in rows.values())


def test_positions_can_be_exited(client):
    client.place_upstox(tag="in")
    until(lambda: _row(client, "in", "complete"))

    status, body = client.upstox("POST", "/v2/order/positions/exit", {})

    assert (status, body["summary"]) == (200, {"total": 1, "success": 1, "error": 0})
    until(lambda: client.upstox("GET", "/v2/portfolio/short-term-positions")[1]["data"][0]["quantity"] == 0)
    assert client.upstox("POST", "/v2/order/positions/exit", {})[1]["errors"][0]["error_code"] == "UDAPI1111"


def test_margins_funds_and_prices_are_answered(client):
    asked = {"instrument_key": f"NSE_EQ|{INFY.isin}", "quantity": 10, "transaction_type": "BUY", "product": "D"}
    _, body = client.upstox("POST", "/v2/charges/margin", {"instruments": [asked]})
    assert body["data"]["required_margin"] == float(10 * PRICE)
    assert client.upstox("GET", "/v3/user/get-funds-and-margin")[1]["data"]["available_to_trade"]["total"] == 1e9
    assert client.upstox("GET", "/v3/market-quote/ltp")[1]["errors"][0]["error_code"] == "UDAPI1009"
    assert client.upstox("GET", "/v2/order/history")[1]["errors"][0]["error_code"] == "UDAPI100059"
    assert client.upstox("GET", "/v2/order/details?order_id=a_b")[1]["errors"][0]["error_code"] == "UDAPI1010"


def test_a_fill_can_be_forced_while_a_cancel_is_under_way(client):
    client.control("PUT", "/settings", {"cancel_delay_ms": 60_000})
    _, body = client.place_upstox(tag="race", order_type="LIMIT", price=float(RESTING))
    order_id = body["data"]["order_ids"][0]
    until(lambda: _row(client, "race", "open"))
    client.upstox("DELETE", f"/v3/order/cancel?order_id={order_id}", {})
    client.control("POST", "/fills", {"order_id": order_id})

    status, body = client.upstox("DELETE", f"/v3/order/cancel?order_id={order_id}", {})

    assert (status, body["errors"][0]["error_code"]) == (400, "UDAPI100040")
    assert client.judged("race")["fills"][0]["quantity"] == 10


def _row(client, tag, status):
    rows = client.upstox("GET", "/v2/order/retrieve-all")[1]["data"]
    return next((row for row in rows if row["tag"] == tag and row["status"] == status), None)
