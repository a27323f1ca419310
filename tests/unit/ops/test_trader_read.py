from __future__ import annotations

import json

import pytest
from fake_coordinator import is_rejected, rests


@pytest.fixture
def placed(fake, run_trader, orders_file):
    """Two orders, the second one rejected; gives their documents."""
    fake.fates["leg-2"] = is_rejected
    ran = run_trader("order", "place-multi", orders_file({}, {"instrument": "BSE:RELIANCE"}), "--json")
    return ran.document["orders"]


def test_orders_are_listed_and_narrowed(placed, run_trader):
    assert len(run_trader("orders", "--json").document["orders"]) == 2

    ran = run_trader("orders", "--state", "rejected", "--json")

    assert [order["correlationId"] for order in ran.document["orders"]] == ["leg-2"]


def test_orders_come_over_as_many_pages_as_the_limit_takes(fake, run_trader, orders_file, monkeypatch):
    monkeypatch.setattr("ops.client.PAGE_MAX", 2)
    run_trader("order", "place-multi", orders_file(*[{}] * 7), "--no-wait")

    ran = run_trader("orders", "--limit", "5", "--json")

    assert len(ran.document["orders"]) == 5
    assert ran.document["next"] == "5"
    assert "--after 5" in run_trader("orders", "--limit", "5").err


def test_an_order_is_found_by_the_end_of_its_id(placed, run_trader):
    ran = run_trader("order", "show", placed[0]["orderId"][-8:], "--json")

    assert ran.document["orderId"] == placed[0]["orderId"]


def test_an_end_that_no_order_has_is_an_error(placed, run_trader):
    ran = run_trader("order", "show", "zzzzzzzz", "--json")

    assert ran.code == 1
    assert ran.document["code"] == "NOT_FOUND"


def test_an_end_that_several_orders_have_is_asked_for_again(fake, placed, run_trader):
    for order in next(iter(fake.intents.values()))["orders"]:
        order["orderId"] = order["orderId"][:-2] + "77"

    assert run_trader("order", "show", "77").code == 2


def test_an_order_is_shown_in_words(placed, run_trader):
    ran = run_trader("order", "show", placed[0]["orderId"])

    assert "BUY 10 NSE:INFY  CNC LIMIT 1,512.50" in ran.out
    assert "10 of 10 at 1,512.50 on average" in ran.out


def test_an_order_that_is_not_there_is_the_coordinators_own_word(fake, run_trader):
    ran = run_trader("order", "show", "0" * 36, "--json")

    assert ran.code == 1
    assert ran.document["code"] == "NOT_FOUND"


def test_an_intent_is_shown_whatever_its_state_and_watched_to_its_exit_code(fake, placed, run_trader):
    intent_id = placed[0]["intentId"]

    assert run_trader("intent", "show", intent_id).code == 0
    assert run_trader("intent", "watch", intent_id, "--json").code == 3


def test_watching_with_json_streams_a_document_a_line_and_ends_with_the_settled_one(fake, run_trader, orders_file):
    placed = run_trader("order", "place-multi", orders_file({}), "--no-wait", "--json").document

    ran = run_trader("intent", "watch", placed["intentId"], "--json")

    documents = [json.loads(line) for line in ran.out.splitlines()]
    assert len(documents) > 2
    assert documents[-1]["status"] == "DONE"
    assert len({json.dumps(one) for one in documents}) == len(documents)


def test_intents_trades_brokers_and_versions_are_listed(fake, placed, run_trader):
    order_id = placed[0]["orderId"]
    fake.trades[order_id] = [a_trade(order_id)]

    assert placed[0]["intentId"] in run_trader("intents").out
    assert "₹15,125.00" in run_trader("trades").out
    assert "₹15,125.00" in run_trader("order", "trades", order_id).out
    assert "₹1,51,250.00" in run_trader("brokers").out
    assert run_trader("version", "--json").document["coordinator"]["version"] == "0.1.0"


def test_an_empty_list_says_so(fake, run_trader):
    assert run_trader("orders").out.strip() == "no orders"
    assert run_trader("trades", "--json").document == {"trades": [], "next": None}


def test_a_connection_that_ends_without_an_answer_is_unreachable(fake, run_trader):
    fake.drop_gets = 1

    assert run_trader("orders").code == 7


def test_the_story_tells_every_verdict_call_and_fill(fake, placed, run_trader):
    order_id = placed[0]["orderId"]
    fake.events[order_id] = the_events()
    fake.trades[order_id] = [a_trade(order_id)]

    told = run_trader("order", "explain", order_id).out

    assert "10:15:02.120" in told  # 04:45:02.120 UTC in India
    assert "+4.5 ms" in told
    assert "risk     ✓ order value ₹15,125.00 · order value max ₹5,00,000.00" in told
    assert "UPSTOX gave a receipt: 251123000123, by the broker's answer" in told
    assert "filled, 10 of 10, at 1,512.50 on average" in told
    assert "brokerage" in told
    assert "₹12.30" in told
    assert "₹27.30" in told


def test_the_story_tells_each_call_how_long_it_took_and_what_was_answered(fake, placed, run_trader):
    order_id = placed[0]["orderId"]
    fake.events[order_id] = the_events()
    began = {"startedAt": "2026-11-23T04:45:02.126000Z", "leaseUntil": "2026-11-23T04:45:17.126000Z", "lines": 1}
    fake.calls[order_id] = [
        {"number": 1, "broker": "UPSTOX", **began, "endedAt": None, "outcome": None, "answer": None},
        {
            "number": 2,
            "broker": "UPSTOX",
            **began,
            "endedAt": "2026-11-23T04:45:02.130000Z",
            "outcome": "ACCEPTED",
            "answer": {"brokerOrderId": "251123000123"},
        },
    ]

    told = run_trader("order", "explain", order_id).out

    assert "none was written by 10:15:17.126" in told
    assert "4.0 ms  UPSTOX" in told
    assert "ACCEPTED" in told
    assert "broker order id 251123000123" in told
    assert len(run_trader("order", "explain", order_id, "--json").document["calls"]) == 2


def test_the_story_of_a_refusal_ends_with_its_reason(fake, placed, run_trader):
    told = run_trader("order", "explain", placed[1]["orderId"]).out

    assert "now REJECTED" in told
    assert "RISK_LIMIT: order value ₹15,12,500.00 is over ₹5,00,000.00" in told


def test_the_story_as_json_is_one_document_in_utc(fake, placed, run_trader):
    order_id = placed[0]["orderId"]
    fake.events[order_id] = the_events()

    document = run_trader("order", "explain", order_id, "--json").document

    assert document["order"]["orderId"] == order_id
    assert document["events"][0]["at"] == "2026-11-23T04:45:02.120000Z"
    assert document["trades"] == []


def test_rests_is_settled(fake, run_trader, orders_file):
    fake.fates["leg-1"] = rests

    assert run_trader("order", "place-multi", orders_file({})).code == 0


def a_trade(order_id):
    return {
        "tradeId": "T1",
        "orderId": order_id,
        "instrument": "NSE:INFY",
        "exchange": "NSE",
        "side": "BUY",
        "quantity": 10,
        "price": "1512.5000",
        "broker": "UPSTOX",
        "account": "upstox-paper",
        "at": "2026-11-23T04:45:02.131000Z",
    }


def the_events():
    verdicts = [
        {"stage": "validate", "verdict": "PROCEED", "facts": {"tick": "0.10", "lotSize": 1}},
        {
            "stage": "risk",
            "verdict": "PROCEED",
            "facts": {"order_value_paise": 1512500, "order_value_max_paise": 50000000},
        },
        {
            "stage": "margin",
            "verdict": "PROCEED",
            "facts": {"charges": {"BROKERAGE": "12.3", "STT": "15.00"}, "charges_paise": 2730},
        },
        {"stage": "route", "verdict": "PROCEED", "facts": {"candidates": ["UPSTOX", "ZERODHA"]}},
    ]
    told = [
        ("RECEIVED", None, "RECEIVED", "CLIENT", "02.120000", {"set": {"quantity": 10}}),
        (
            "CLEARED",
            "RECEIVED",
            "RECEIVED",
            "PIPELINE",
            "02.124500",
            {"verdicts": verdicts, "set": {"broker": "UPSTOX"}},
        ),
        ("SENDING", "RECEIVED", "SENDING", "PIPELINE", "02.126000", {"attempt": 1}),
        (
            "SUBMITTED",
            "SENDING",
            "SUBMITTED",
            "BROKER_ANSWER",
            "02.130000",
            {"set": {"broker_order_id": "251123000123"}},
        ),
        (
            "FILLED",
            "SUBMITTED",
            "FILLED",
            "STREAM",
            "02.140000",
            {"set": {"filled_quantity": 10, "average_price": "1512.50"}},
        ),
    ]
    return [
        {"seq": seq, "type": kind, "prevState": before, "state": state, "source": source, "detail": detail}
        | {"at": f"2026-11-23T04:45:{at}Z"}
        for seq, (kind, before, state, source, at, detail) in enumerate(told)
    ]
