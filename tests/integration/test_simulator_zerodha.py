"""Zerodha's dialect over the wire, beyond what its SDK shows."""

from __future__ import annotations

from hashlib import sha256

import pytest
from simulator_client import INFY, RESTING, a_client, a_listener, until
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect


@pytest.fixture
def client():
    with a_client() as client:
        yield client


def row_of(client, tag, *statuses):
    rows = client.zerodha("GET", "/orders")[1]["data"]
    return next((row for row in rows if row["tag"] == tag and row["status"] in statuses), None)


def test_an_error_has_its_type(client):
    assert client.zerodha("GET", "/orders", token="nobody") == (
        403,
        {
            "status": "error",
            "message": "Incorrect `api_key` or `access_token`.",
            "data": None,
            "error_type": "TokenException",
        },
    )
    assert client.zerodha("GET", "/nowhere")[0] == 404


def test_want_of_funds_is_a_400_with_a_rejected_row(client):
    client.control("PUT", "/accounts/ZR0001", {"cash": "100.00"})

    status, body = client.place_zerodha(tag="poor")

    assert (status, body["error_type"]) == (400, "MarginException")
    assert row_of(client, "poor", "REJECTED")["status_message"].startswith("Insufficient funds.")


def test_want_of_shares_is_a_400_with_a_rejected_row(client):
    status, body = client.place_zerodha(tag="bare", transaction_type="SELL", product="CNC")

    assert (status, body["error_type"]) == (400, "HoldingException")
    assert row_of(client, "bare", "REJECTED")


def test_what_the_exchange_refuses_is_accepted_first(client):
    assert client.place_zerodha(tag="big", quantity=str(INFY.freeze_quantity + 1))[0] == 200

    assert "freeze" in until(lambda: row_of(client, "big", "REJECTED"))["status_message"]


def test_a_market_order_is_stored_as_a_limit_with_tags(client):
    client.control("PUT", "/settings", {"market_as_limit": True})
    client.place_zerodha(tag="mpp", market_protection="2")

    row = until(lambda: row_of(client, "mpp", "COMPLETE"))

    assert (row["order_type"], row["tags"], row["market_protection"]) == ("LIMIT", ["mpp", "mktp", "mktp:2.00"], 0)


def test_the_26th_modification_is_refused(client):
    client.control("PUT", "/settings", {"step_delay_ms": 0, "modifications_max": 25})
    order_id = client.place_zerodha(tag="often", order_type="LIMIT", price=str(RESTING))[1]["data"]["order_id"]
    until(lambda: row_of(client, "often", "OPEN"))
    path = f"/orders/regular/{order_id}"
    answers = []
    for n in range(26):
        answers.append(client.zerodha("PUT", path, {"quantity": str(11 + n)}))
        until(lambda: row_of(client, "often", "OPEN"))

    assert {status for status, _ in answers[:25]} == {200}
    assert answers[25][1]["message"] == "Maximum allowed order modifications exceeded."


def test_an_order_on_its_way_can_not_be_modified(client):
    client.control("PUT", "/settings", {"step_delay_ms": 60_000})
    order_id = client.place_zerodha(tag="way", order_type="LIMIT", price=str(RESTING))[1]["data"]["order_id"]

    status, body = client.zerodha("PUT", f"/orders/regular/{order_id}", {"quantity": "11"})

    assert (status, body["error_type"]) == (400, "InputException")
    assert "being processed" in body["message"]


def test_the_variety_must_be_the_orders_own(client):
    order_id = client.place_zerodha(order_type="LIMIT", price=str(RESTING))[1]["data"]["order_id"]

    assert client.zerodha("DELETE", f"/orders/amo/{order_id}")[1]["error_type"] == "GeneralException"


def test_a_closed_market_takes_only_after_market_orders(client):
    client.control("PUT", "/clock", {"session": "closed"})
    assert client.place_zerodha(tag="now")[0] == 400
    form = {"tradingsymbol": "INFY", "exchange": "NSE", "transaction_type": "BUY", "quantity": "1", "product": "MIS"}
    amo = form | {"order_type": "LIMIT", "price": str(INFY.close), "tag": "later"}
    assert client.zerodha("POST", "/orders/amo", amo)[0] == 200
    assert row_of(client, "later", "AMO REQ RECEIVED")

    client.control("PUT", "/clock", {"session": "open"})

    until(lambda: row_of(client, "later", "COMPLETE"))


def test_slicing_what_need_not_be_sliced_is_an_error(client):
    status, body = client.place_zerodha(autoslice="true", quantity=str(INFY.freeze_quantity))

    assert status == 400
    assert "for order slicing" in body["message"]


def test_some_slices_may_fail(client):
    client.control("PUT", "/accounts/ZR0001", {"cash": str(int(INFY.freeze_quantity * INFY.close * 2 // 10 * 3 // 2))})

    status, body = client.place_zerodha(
        autoslice="true", quantity=str(INFY.freeze_quantity * 2), order_type="LIMIT", price=str(RESTING), tag="half"
    )

    first, second = body["data"]["children"]
    assert status == 200
    assert until(lambda: row_of(client, "half", "OPEN"))["order_id"] == first["order_id"]
    assert second["error"]["error_type"] == "MarginException"


def test_the_default_limits_hold(client):
    client.control("PUT", "/settings", {"rate_limits": True})
    statuses = [client.place_zerodha()[0] for _ in range(100)]

    assert 429 in statuses
    assert statuses[:10] == [200] * 10


def test_the_days_placements_are_counted_apart(client):
    limits = {"orders": {}, "placements": {"86400": 2}, "reads": {}}
    client.control("PUT", "/settings", {"rate_limits": True, "zerodha": limits})
    order = {"order_type": "LIMIT", "price": str(RESTING)}
    ids = [client.place_zerodha(**order)[1]["data"]["order_id"] for _ in range(2)]

    assert client.place_zerodha(**order)[0] == 429
    assert client.zerodha("DELETE", f"/orders/regular/{ids[0]}")[0] == 200


def test_postbacks_carry_a_checksum_and_tell_only_what_zerodha_tells(client):
    client.control("PUT", "/settings", {"partial_percent": 100, "trades_max": 2})
    with a_listener() as (url, heard):
        client.control("PUT", "/postbacks", {"url": url, "facade": "zerodha"})
        client.place_zerodha(tag="told")
        until(lambda: heard and heard[-1]["status"] == "COMPLETE")

    assert [row["status"] for row in heard] == ["UPDATE", "COMPLETE"]
    for row in heard:
        secret = f"{row['order_id']}{row['order_timestamp']}sim-zerodha-secret"
        assert row["checksum"] == sha256(secret.encode()).hexdigest()


def test_the_ticker_wants_a_living_token(client):
    address = client.simulator.urls["zerodha"].replace("http", "ws")
    with pytest.raises(InvalidStatus), connect(f"{address}/?api_key=sim-zerodha-key&access_token=nobody"):
        pass


def test_a_request_token_is_good_once(client):
    checksum = sha256(b"sim-zerodha-keyabcsim-zerodha-secret").hexdigest()
    form = {"api_key": "sim-zerodha-key", "request_token": "abc", "checksum": checksum}

    assert client.zerodha("POST", "/session/token", form)[1]["data"]["access_token"] == "sim-zerodha-token"
    assert client.zerodha("POST", "/session/token", form)[1]["error_type"] == "TokenException"
    assert client.zerodha("POST", "/session/token", form | {"checksum": "0"})[0] == 403
