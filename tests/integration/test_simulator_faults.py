"""Every fault does on the wire what its name says, and the judge's book knows whether the order lives."""

from __future__ import annotations

import http.client
import time

import pytest
from simulator_client import a_client

LOST = (ConnectionError, http.client.HTTPException)


@pytest.fixture(scope="module")
def shared():
    with a_client() as client:
        yield client


@pytest.fixture
def client(shared):
    shared.control("POST", "/reset", {"what": ["faults", "counts"]})
    return shared


@pytest.fixture
def tag(request):
    return request.node.name[-40:]


@pytest.mark.parametrize(("kind", "lives"), [
    ("drop_before", False),
    ("reset_before", False),
    ("drop_after", True),
    ("reset_after", True),
    ("cut", True),
])  # fmt: skip
def test_a_lost_answer_loses_the_order_or_not(client, tag, kind, lives):
    client.control("POST", "/faults", {"kind": kind, "endpoint": "place"})

    with pytest.raises(LOST):
        client.place_upstox(tag=tag)

    assert (tag in client.tags()) is lives
    assert client.place_upstox(tag=tag)[0] == 200


@pytest.mark.parametrize(("fault", "status", "lives"), [
    ({"kind": "error_before"}, 503, False),
    ({"kind": "error_before", "status": 502}, 502, False),
    ({"kind": "error_after"}, 503, True),
    ({"kind": "error_after", "status": 504}, 504, True),
    ({"kind": "html"}, 200, True),
])  # fmt: skip
def test_a_page_comes_where_json_was_due(client, tag, fault, status, lives):
    client.control("POST", "/faults", fault)

    answered, body = client.place_upstox(tag=tag)

    assert (answered, body[:6]) == (status, b"<html>")
    assert (tag in client.tags()) is lives


def test_an_error_can_have_a_body_of_its_own(client, tag):
    client.control("POST", "/faults", {"kind": "error_after", "status": 500, "body": '{"oops": 1}'})

    assert client.place_upstox(tag=tag) == (500, {"oops": 1})


def test_a_truncated_answer_is_no_json(client, tag):
    client.control("POST", "/faults", {"kind": "truncated"})

    status, body = client.place_upstox(tag=tag)

    assert status == 200
    assert body.startswith(b'{"status":"success"')
    assert tag in client.tags()


def test_an_answer_can_lack_its_id(client, tag):
    client.control("POST", "/faults", [{"kind": "no_id", "facade": "upstox"}, {"kind": "no_id", "facade": "zerodha"}])

    assert client.place_upstox(tag=tag)[1]["data"] == {}
    assert client.place_zerodha(tag="noid") == (200, {"status": "success", "data": {}})
    assert {tag, "noid"} <= set(client.tags())


def test_a_400_may_say_timed_out_while_the_order_lives(client):
    client.control("POST", "/faults", {"kind": "timed_out", "facade": "zerodha"})

    status, body = client.place_zerodha(tag="timedout")

    assert (status, body["error_type"]) == (400, "NetworkException")
    assert "timed out" in body["message"]
    assert "timedout" in client.tags()


def test_a_rate_limit_answer_may_say_when_to_come_again(client, tag):
    client.control("POST", "/faults", {"kind": "rate_limited", "count": 2, "retry_after": 3})

    assert client.place_upstox(tag=tag)[1]["errors"][0]["error_code"] == "UDAPI10005"
    assert client.place_zerodha(tag="limited")[0] == 429
    assert not {tag, "limited"} & set(client.tags())
    counts = {(row["facade"], row["status"]): row["count"] for row in client.control("GET", "/requests")}
    assert counts == {("upstox", "429"): 1, ("zerodha", "429"): 1}


def test_tokens_die_and_addresses_are_refused_in_each_brokers_words(client):
    client.control("POST", "/faults", {"kind": "token_dead", "count": 2})
    assert (client.place_upstox()[0], client.place_zerodha()[1]["error_type"]) == (401, "TokenException")

    client.control("POST", "/faults", {"kind": "ip_not_registered", "count": 2})
    assert client.place_upstox()[1]["errors"][0]["errorCode"] == "UDAPI1154"
    assert client.place_zerodha()[1]["error_type"] == "PermissionException"


def test_a_refusal_of_the_brokers_own_has_the_words_given(client, tag):
    client.control("POST", "/faults", {"kind": "refused", "code": "UDAPI1158", "message": "no market orders"})

    status, body = client.place_upstox(tag=tag)

    assert (status, body["errors"][0]["error_code"], body["errors"][0]["message"]) == (
        400,
        "UDAPI1158",
        "no market orders",
    )
    assert tag not in client.tags()


@pytest.mark.parametrize("kind", ["latency_before", "latency_after", "drip"])
def test_an_answer_comes_late(client, tag, kind):
    client.control("POST", "/faults", {"kind": kind, "seconds": 0.3})
    began = time.monotonic()

    assert client.place_upstox(tag=tag)[0] == 200
    assert time.monotonic() - began >= 0.3


def test_a_huge_answer_is_still_an_answer(client):
    client.control("POST", "/faults", {"kind": "huge", "endpoint": "book"})

    status, body = client.upstox("GET", "/v2/order/retrieve-all")

    assert (status, body["status"]) == (200, "success")


def test_an_order_appears_late(client, tag):
    client.control("PUT", "/clock", {"frozen": True})
    client.control("POST", "/faults", {"kind": "late_visibility", "seconds": 8})
    order_id = client.place_upstox(tag=tag)[1]["data"]["order_ids"][0]
    client.control("PUT", "/clock", {"advance_s": 7.9})
    assert client.upstox("GET", f"/v2/order/history?tag={tag}")[0] == 400
    assert client.upstox("GET", f"/v2/order/details?order_id={order_id}")[0] == 400
    assert client.judged(tag)["state"] == "complete"

    client.control("PUT", "/clock", {"advance_s": 0.1})

    assert client.upstox("GET", f"/v2/order/details?order_id={order_id}")[1]["data"]["tag"] == tag
    client.control("PUT", "/clock", {"frozen": False})


def test_the_exchange_rejects_what_was_accepted(client, tag):
    client.control("POST", "/faults", {"kind": "reject", "message": "16999 : not today"})
    assert client.place_upstox(tag=tag)[0] == 200
    client.control("PUT", "/clock", {"advance_s": 1})

    assert (client.judged(tag)["state"], client.judged(tag)["message"]) == ("rejected", "16999 : not today")


def test_rows_may_come_twice(client, tag):
    client.place_upstox(tag=tag)
    client.control("POST", "/faults", {"kind": "duplicate_rows", "endpoint": "book"})

    rows = client.upstox("GET", "/v2/order/retrieve-all")[1]["data"]

    assert len([row for row in rows if row["tag"] == tag]) == 2


def test_faults_add_up(client, tag):
    """An order that appears late, and whose answer is lost."""
    client.control(
        "POST",
        "/faults",
        [
            {"kind": "late_visibility", "seconds": 3600, "endpoint": "place"},
            {"kind": "drop_after", "endpoint": "place"},
        ],
    )

    with pytest.raises(LOST):
        client.place_upstox(tag=tag)

    assert client.upstox("GET", f"/v2/order/history?tag={tag}")[0] == 400
    assert tag in client.tags()
