from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import loopback as far
import pytest
from given import INFY, NIFTY, SESSION, TAG, a_line, some_lines
from loopback import Loopback, loopback

from brokers.base import Funds, Hint
from brokers.dialects.upstox import STATES
from brokers.transport import boot_clock
from brokers.upstox import Upstox
from domain.lifecycle import OrderState
from domain.money import Money
from domain.orders import OrderType, Product, Side, Validity
from domain.outcomes import Accepted, BookRow, Fill, NotSent, Refused, Unknown, Unreadable

RECEIPT = far.answer(200, '{"status":"success","data":{"order_ids":["261122000000017"]},"metadata":{"latency":31}}')


def adapter(broker: Loopback) -> Upstox:
    return Upstox.from_env({"UPSTOX_BASE_URL": f"{broker.url}/std", "UPSTOX_HFT_BASE_URL": f"{broker.url}/hft"})


def place(*acts: far.Act, lines=None, **given: Any):
    with loopback(*acts) as broker:
        outcomes = adapter(broker).place(SESSION, lines or [a_line(**given)], timeout_s=2)
    return outcomes, broker.heard


def error(code: str, message: str = "no", **more: Any) -> dict[str, Any]:
    return {"error_code": code, "errorCode": code, "message": message, **more}


def errors(status: int, *rows: dict[str, Any], **more: Any) -> far.Act:
    return far.answer(status, json.dumps({"status": "error", "errors": rows, **more}))


# ---- one line


def test_a_limit_order_goes_to_the_fast_host_with_its_digits_kept():
    outcomes, (heard,) = place(RECEIPT, price=Decimal("0.0025"), quantity=3)

    assert outcomes == [Accepted("261122000000017")]
    assert (heard.method, heard.target) == ("POST", "/hft/v3/order/place")
    assert heard.headers["authorization"] == "Bearer hush-token"
    assert heard.headers["content-type"] == "application/json"
    assert b'"price":0.0025,' in heard.body
    assert json.loads(heard.body) == {
        "quantity": 3,
        "product": "D",
        "validity": "DAY",
        "price": 0.0025,
        "tag": TAG,
        "instrument_token": "NSE_EQ|INE009A01021",
        "order_type": "LIMIT",
        "transaction_type": "BUY",
        "disclosed_quantity": 0,
        "trigger_price": 0,
        "is_amo": False,
        "slice": False,
    }


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ({"order_type": OrderType.MARKET, "price": None}, {"price": 0, "trigger_price": 0, "market_protection": -1}),
        (
            {"order_type": OrderType.SL_M, "price": None, "trigger_price": Decimal(9), "market_protection": Decimal("2.5")},
            {"price": 0, "trigger_price": 9, "market_protection": 2.5},
        ),
        ({"order_type": OrderType.SL, "trigger_price": Decimal("9.95")}, {"price": 1500.10, "trigger_price": 9.95}),
        ({"product": Product.MIS, "side": Side.SELL}, {"product": "I", "transaction_type": "SELL"}),
        ({"product": Product.MTF, "validity": Validity.IOC}, {"product": "MTF", "validity": "IOC"}),
        ({"product": Product.NRML, "instrument": NIFTY}, {"product": "D", "instrument_token": "NSE_FO|43919"}),
        ({"instrument": replace(INFY, exchange="BSE")}, {"instrument_token": "BSE_EQ|INE009A01021"}),
        ({"instrument": replace(NIFTY, exchange="BFO")}, {"instrument_token": "BSE_FO|43919"}),
        ({"instrument": replace(NIFTY, exchange="CDS")}, {"instrument_token": "NCD_FO|43919"}),
    ],
)  # fmt: skip
def test_each_term_has_its_word(given: dict[str, Any], sent: dict[str, Any]):
    instrument = given.pop("instrument", INFY)
    _, (heard,) = place(RECEIPT, lines=[a_line(instrument, **given)])

    body = json.loads(heard.body)
    assert {name: body.get(name) for name in sent} == sent
    assert ("market_protection" in body) == (body["order_type"] in ("MARKET", "SL-M"))


@pytest.mark.parametrize(
    "line",
    [
        a_line(replace(INFY, isin=None)),
        a_line(replace(INFY, exchange="MCX")),
        a_line(replace(NIFTY, multiplier=1000)),
        a_line(price=None),
        a_line(order_type=OrderType.SL),
        a_line(broker_tag=""),
    ],
    ids=["no isin", "no segment", "no units", "no price", "no trigger", "no tag"],
)
def test_what_cannot_be_said_is_refused_and_not_sent(line):
    outcomes, heard = place(RECEIPT, lines=[line])

    assert isinstance(outcomes[0], Refused)
    assert outcomes[0].code == "NOT_TRANSLATABLE"
    assert heard == []


@pytest.mark.parametrize(
    ("act", "outcome"),
    [
        (errors(400, error("UDAPI1052", "quantity is zero")), Refused("UDAPI1052", "quantity is zero")),
        (errors(403, error("UDAPI1154", "IP 1.2.3.4")), Refused("UDAPI1154", "IP 1.2.3.4")),
        (errors(400, error("UDAPI1056"), error("UDAPI1055", "nor this")), Refused("UDAPI1056", "no; nor this")),
        (far.answer(400, '{"errors":[{"errorCode":"UDAPI1057","message":"old"}]}'), Refused("UDAPI1057", "old")),
        (errors(429, error("UDAPI10005", "slow")), NotSent("429 UDAPI10005: slow", retry_after_s=1.0)),
        (errors(401, error("UDAPI100050", "bad")), NotSent("401 UDAPI100050: bad", session_dead=True)),
        (errors(400, error("UDAPI9999", "new")), Unknown("400 UDAPI9999: new")),
        (errors(400, error("UDAPI1052"), error("UDAPI9999")), Unknown("400 UDAPI1052: no; no")),
        (errors(400, error("UDAPI100040")), Unknown("400 UDAPI100040: no")),  # a cancel's code, not a place's
        (errors(400, error("UDAPI1052", "request timed out")), Unknown("400 UDAPI1052: request timed out")),
        (errors(500, error("UDAPI1052")), Unknown("500: {\"status\": \"error\", \"errors\": [{\"error_code\": \"UDAPI1052\", \"errorCode\": \"UDAPI1052\", \"message\": \"no\"}]}")),
        (far.answer(429, "slow down"), Unknown("429: slow down")),
        (far.answer(200, '{"status":"success","data":{"order_ids":[]}}'), Unknown('200: {"status":"success","data":{"order_ids":[]}}')),
        (far.answer(200, '{"status":"success","data":{"order_ids":["1","2"]}}'), Unknown('200: {"status":"success","data":{"order_ids":["1","2"]}}')),
        (far.answer(200, '{"status":"success","data":{"order_ids":["../x"]}}'), Unknown('200: {"status":"success","data":{"order_ids":["../x"]}}')),
        (far.answer(200, '{"status":"error","data":{"order_ids":["1"]}}'), Unknown('200: {"status":"error","data":{"order_ids":["1"]}}')),
        (far.answer(204, ""), Unknown("204: an empty answer")),
        (far.answer(200, "<html>\n <b>ok\x00"), Unknown("200: <html> <b>ok")),
    ],
)  # fmt: skip
def test_only_a_documented_no_is_a_no(act: far.Act, outcome: object):
    (found,), heard = place(act)

    assert found == outcome
    assert len(heard) == 1


def test_the_broker_may_say_how_long_to_wait():
    (outcome,), _ = place(far.answer(429, json.dumps({"errors": [error("UDAPI10005")]}), Retry_After="7"))

    assert isinstance(outcome, NotSent)
    assert outcome.retry_after_s == 7.0


def test_no_secret_is_in_what_is_told():
    for act in (far.hang_up, far.reset, far.answer(500, "no")):
        (outcome,), _ = place(act)
        assert "hush" not in str(outcome)
    assert "hush" not in repr(SESSION)


# ---- many lines


def batch(tags: list[str]) -> far.Act:
    rows = [{"correlation_id": tag, "order_id": f"26{n}"} for n, tag in enumerate(tags)]
    return far.answer(200, json.dumps({"status": "success", "data": rows, "errors": None}))


def tags_of(heard: far.Heard) -> list[str]:
    return [line["correlation_id"] for line in json.loads(heard.body)]


def test_many_lines_go_in_one_request_by_their_tags():
    lines = some_lines(3)
    tags = [line.order.broker_tag for line in lines]
    outcomes, (heard,) = place(batch(tags[::-1]), lines=lines)

    assert outcomes == [Accepted("262"), Accepted("261"), Accepted("260")]
    assert (heard.method, heard.target) == ("POST", "/std/v2/order/multi/place")
    body = json.loads(heard.body)
    assert [line["correlation_id"] for line in body] == [line["tag"] for line in body] == tags
    assert not any(line["slice"] for line in body)


def test_each_line_of_a_partial_success_has_its_own_end():
    lines = some_lines(5)
    tags = [line.order.broker_tag for line in lines]
    answer = {
        "status": "partial_success",
        "data": [{"correlation_id": tags[0], "order_id": "261"}, {"correlation_id": tags[4], "order_id": "265"}],
        "errors": [
            error("UDAPI100011", "bad key", correlation_id=tags[1]),
            error("UDAPI9999", "new", correlation_id=tags[2]),
            error("UDAPI100011", "bad key", correlation_id=tags[4]),
        ],
        "summary": {"total": 5, "payload_error": 0, "success": 2, "error": 2},
    }
    outcomes, heard = place(far.answer(207, json.dumps(answer)), lines=lines)

    assert outcomes == [
        Accepted("261"),
        Refused("UDAPI100011", "bad key"),
        Unknown("207 UDAPI9999: new"),
        Unknown("207: 0 ids and 0 errors for the line"),
        Unknown("207: 1 ids and 1 errors for the line"),
    ]
    assert len(heard) == 1


def stopped(*tags: str) -> far.Act:
    rows = [error("UDAPI1052", "quantity is zero", correlation_id=tag) for tag in tags]
    return errors(400, *rows, data=None, summary={"total": 3, "payload_error": len(tags), "success": 0, "error": 0})


def test_bad_lines_are_refused_and_the_others_sent_once_more():
    lines = some_lines(4)
    one, two, three, four = (line.order.broker_tag for line in lines)
    outcomes, (first, second) = place(stopped(two, four), batch([one, three]), lines=lines)

    bad = Refused("UDAPI1052", "quantity is zero")
    assert outcomes == [Accepted("260"), bad, Accepted("261"), bad]
    assert tags_of(first) == [one, two, three, four]
    assert tags_of(second) == [one, three]


def test_a_batch_of_bad_lines_only_is_sent_once():
    lines = some_lines(2)
    outcomes, heard = place(stopped(*(line.order.broker_tag for line in lines)), lines=lines)

    assert {type(outcome) for outcome in outcomes} == {Refused}
    assert len(heard) == 1


def test_a_batch_stopped_twice_is_given_up_and_its_good_lines_may_be_sent_again():
    lines = some_lines(3)
    one, two, _ = (line.order.broker_tag for line in lines)
    outcomes, heard = place(stopped(one), stopped(two), lines=lines)

    assert [type(outcome) for outcome in outcomes] == [Refused, Refused, NotSent]
    assert len(heard) == 2


def test_the_second_request_of_a_batch_may_be_lost():
    lines = some_lines(3)
    outcomes, heard = place(stopped(lines[0].order.broker_tag), far.hang_up, lines=lines)

    assert [type(outcome) for outcome in outcomes] == [Refused, Unknown, Unknown]
    assert len(heard) == 2


@pytest.mark.parametrize(
    "summary",
    [
        {"payload_error": 0, "success": 0},
        {"payload_error": 1, "success": 1},
        {"payload_error": 1},
        None,
    ],
)
def test_a_batch_is_sent_again_only_if_the_answer_proves_that_nothing_was_taken(summary: object):
    lines = some_lines(2)
    row = error("UDAPI1052", correlation_id=lines[0].order.broker_tag)
    outcomes, heard = place(errors(400, row, summary=summary), lines=lines)

    assert len(heard) == 1
    assert isinstance(outcomes[1], Unknown)


@pytest.mark.parametrize(
    ("act", "kind"),
    [
        (far.hang_up, Unknown),
        (errors(429, error("UDAPI10005")), NotSent),
        (errors(401, error("UDAPI100050")), NotSent),
        (errors(403, error("UDAPI1154")), Refused),
        (errors(400, error("UDAPI1118")), Refused),
        (errors(400, error("UDAPI9999")), Unknown),
        (far.answer(502, "<html>"), Unknown),
        (far.answer(200, "{}"), Unknown),
        (far.answer(200, '{"data":{"order_ids":["1"]}}'), Unknown),
    ],
)
def test_what_befalls_the_whole_batch_befalls_each_line(act: far.Act, kind: type):
    outcomes, heard = place(act, lines=some_lines(3))

    assert {type(outcome) for outcome in outcomes} == {kind}
    assert len(heard) == 1


def test_a_line_that_cannot_be_said_does_not_stop_the_others():
    lines = [a_line(price=None), *some_lines(1)]
    outcomes, (heard,) = place(RECEIPT, lines=lines)

    assert [type(outcome) for outcome in outcomes] == [Refused, Accepted]
    assert heard.target == "/hft/v3/order/place"


def test_no_lines_make_no_call():
    with loopback(RECEIPT) as broker:
        assert adapter(broker).place(SESSION, [], timeout_s=1) == []
    assert broker.heard == []


def test_more_lines_than_the_broker_takes_are_a_mistake_of_ours():
    with loopback(RECEIPT) as broker, pytest.raises(ValueError, match="11 lines"):
        adapter(broker).place(SESSION, some_lines(11), timeout_s=1)


def test_past_the_lease_no_line_is_sent():
    with loopback(RECEIPT) as broker:
        outcomes = adapter(broker).place(SESSION, some_lines(2), timeout_s=1, send_by=boot_clock() - 1)
    assert outcomes == [NotSent("the time to send it was over")] * 2
    assert broker.heard == []


# ---- the book

ROW = {
    "exchange": "NSE", "product": "I", "price": 571.05, "quantity": 10, "status": "open", "guid": None, "tag": TAG,
    "instrument_token": "NSE_EQ|INE062A01020", "trading_symbol": "SBIN-EQ", "order_type": "LIMIT", "validity": "DAY",
    "trigger_price": 0.0, "transaction_type": "BUY", "average_price": 0.0, "filled_quantity": 0, "pending_quantity": 10,
    "status_message": None, "exchange_order_id": "", "order_id": "261122000000021",
    "order_timestamp": "2026-11-22 10:15:02", "exchange_timestamp": None,
}  # fmt: skip
TRADE = {
    "exchange": "NSE", "order_id": "261122000000021", "trade_id": "77", "quantity": 4, "average_price": 571.1,
    "exchange_timestamp": "22-Nov-2026 10:15:03", "order_timestamp": "22-Nov-2026 10:15:02",
}  # fmt: skip


def book(*acts: far.Act):
    with loopback(*acts) as broker:
        found = adapter(broker).book(SESSION, timeout_s=2)
    return found, [heard.target for heard in broker.heard]


def rows(*data: object) -> far.Act:
    return far.answer(200, json.dumps({"status": "success", "data": data}))


def test_an_untouched_order_is_read_without_its_trades():
    found, targets = book(rows(ROW))

    assert found == [
        BookRow(
            broker_order_id="261122000000021",
            tag=TAG,
            state=OrderState.OPEN,
            status="open",
            quantity=10,
            filled_quantity=0,
            average_price=None,
            price=Decimal("571.05"),
            at=datetime(2026, 11, 22, 4, 45, 2, tzinfo=UTC),
            order_type=OrderType.LIMIT,
            validity=Validity.DAY,
        )
    ]
    assert targets == ["/std/v2/order/retrieve-all"]


def test_fills_are_joined_to_their_order_by_time_and_once():
    later = {**TRADE, "trade_id": "78", "quantity": 2, "exchange_timestamp": "2026-11-22 10:15:09"}
    other = {**TRADE, "order_id": "9"}
    partly = {**ROW, "filled_quantity": 6, "average_price": 571.0833333333334}
    found, targets = book(rows(partly, {**ROW, "order_id": "10", "tag": ""}), rows(later, TRADE, TRADE, other))

    assert not isinstance(found, Unreadable)
    assert found[0].state is OrderState.PARTIALLY_FILLED
    assert found[0].average_price == Decimal("571.0833333333334")
    assert found[0].fills == (
        Fill("77", "NSE", 4, Decimal("571.1"), datetime(2026, 11, 22, 4, 45, 3, tzinfo=UTC)),
        Fill("78", "NSE", 2, Decimal("571.1"), datetime(2026, 11, 22, 4, 45, 9, tzinfo=UTC)),
    )
    assert (found[1].tag, found[1].fills) == (None, ())
    assert targets == ["/std/v2/order/retrieve-all", "/std/v2/order/trades/get-trades-for-day"]


def test_an_empty_book_is_a_book():
    assert book(rows())[0] == []


@pytest.mark.parametrize(
    ("status", "filled", "state"),
    [
        *[(status, 10 if state is OrderState.FILLED else 0, state) for status, state in STATES.items()],
        ("open", 4, OrderState.PARTIALLY_FILLED),
        ("complete", 4, None),
        ("cancelled", 4, OrderState.CANCELLED),
        ("a word of tomorrow", 0, None),
    ],
)
def test_every_documented_status_has_its_state(status: str, filled: int, state: OrderState | None):
    found, _ = book(rows({**ROW, "status": status, "filled_quantity": filled}), rows())

    assert not isinstance(found, Unreadable)
    assert (found[0].state, found[0].status) == (state, status)


def test_the_table_has_the_17_documented_statuses():
    assert len(STATES) == 17


@pytest.mark.parametrize(
    "act",
    [
        far.hang_up,
        far.answer(200, "<html>"),
        far.answer(200, "[]"),
        far.answer(200, '{"status":"success","data":null}'),
        far.answer(200, '{"status":"success","data":{}}'),
        far.answer(200, '{"status":"error","data":[]}'),
        far.answer(206, '{"status":"success","data":[]}'),
        far.answer(502, "bad gateway"),
        rows("not a row"),
        rows({**ROW, "order_id": None}),
        rows({**ROW, "status": None}),
        rows({**ROW, "quantity": "10"}),
        rows({**ROW, "quantity": -1}),
        rows({**ROW, "filled_quantity": 0.5}),
        rows({**ROW, "price": "571"}),
        far.answer(200, '{"status":"success","data":[{"order_id":"1","status":"open","quantity":1e999999999}]}'),
        errors(429, error("UDAPI10005")),
    ],
)
def test_a_book_with_a_gap_is_no_book(act: far.Act):
    found, _ = book(act)

    assert isinstance(found, Unreadable)
    assert not found.session_dead


@pytest.mark.parametrize("act", [far.hang_up, rows({**TRADE, "average_price": None}), rows({**TRADE, "exchange_timestamp": "", "order_timestamp": "10:15:02"})])  # fmt: skip
def test_a_book_without_its_trades_is_no_book(act: far.Act):
    found, _ = book(rows({**ROW, "filled_quantity": 1}), act)

    assert isinstance(found, Unreadable)


def test_a_dead_session_is_told_apart():
    found, _ = book(errors(401, error("UDAPI100050", "Invalid token")))

    assert found == Unreadable("401 UDAPI100050: Invalid token", session_dead=True)


# ---- cancel, modify, funds, hints


def cancel(act: far.Act):
    with loopback(act) as broker:
        outcome = adapter(broker).cancel(SESSION, "2611-22", timeout_s=2)
    return outcome, broker.heard[0]


def test_a_cancel_names_its_order():
    outcome, heard = cancel(far.answer(200, '{"status":"success","data":{"order_id":"2611-22"}}'))

    assert outcome == Accepted("2611-22")
    assert (heard.method, heard.target, heard.body) == ("DELETE", "/hft/v3/order/cancel?order_id=2611-22", b"")


@pytest.mark.parametrize(
    ("act", "kind"),
    [
        (errors(400, error("UDAPI100040")), Refused),
        (errors(400, error("UDAPI100010")), Refused),
        (errors(400, error("UDAPI1052")), Unknown),
        (errors(429, error("UDAPI10005")), NotSent),
        (far.answer(200, '{"status":"success","data":{"order_id":"another"}}'), Unknown),
        (far.hang_up, Unknown),
    ],
)
def test_a_cancel_has_errors_of_its_own(act: far.Act, kind: type):
    assert isinstance(cancel(act)[0], kind)


DEMANDED = {"order_id": "7", "order_type": "LIMIT", "validity": "DAY", "price": 1499.95, "trigger_price": 0}


@pytest.mark.parametrize(
    ("terms", "changed", "sent"),
    [
        ({}, {"price"}, {}),
        ({"quantity": 4}, {"quantity"}, {"quantity": 4}),
        ({"quantity": 4, "disclosed_quantity": 1}, {"quantity"}, {"quantity": 4}),
        ({"disclosed_quantity": 5}, {"disclosed_quantity"}, {"disclosed_quantity": 5}),
        ({"validity": Validity.IOC}, {"validity"}, {"validity": "IOC"}),
        (
            {"order_type": OrderType.MARKET, "price": None},
            {"order_type", "price"},
            {"order_type": "MARKET", "price": 0, "market_protection": -1},
        ),
    ],
    ids=lambda value: "-".join(sorted(value)),
)
def test_a_modify_sends_what_has_changed_and_what_upstox_demands(
    terms: dict[str, Any], changed: set[str], sent: dict[str, Any]
):
    with loopback(far.answer(200, '{"status":"success","data":{"order_id":"7"}}')) as broker:
        line = a_line(**{"price": Decimal("1499.95"), **terms})
        outcome = adapter(broker).modify(SESSION, "7", line, changed=changed, timeout_s=2)
    (heard,) = broker.heard

    assert outcome == Accepted("7")
    assert (heard.method, heard.target) == ("PUT", "/hft/v3/order/modify")
    assert json.loads(heard.body) == DEMANDED | sent


def test_what_is_disclosed_can_not_be_taken_back_at_upstox():
    with loopback(RECEIPT) as broker:
        outcome = adapter(broker).modify(SESSION, "7", a_line(), changed={"disclosed_quantity"}, timeout_s=2)

    assert isinstance(outcome, Refused)
    assert (outcome.code, broker.heard) == ("NOT_TRANSLATABLE", [])


def test_funds_are_read_in_paise():
    answer = '{"status":"success","data":{"equity":{"available_margin":1000.505,"used_margin":0},"commodity":{}}}'
    with loopback(far.answer(200, answer), far.answer(200, "{}")) as broker:
        assert adapter(broker).funds(SESSION, timeout_s=2) == Funds(Money(100_051), Money(0))
        assert isinstance(adapter(broker).funds(SESSION, timeout_s=2), Unreadable)


@pytest.mark.parametrize(
    ("body", "hint"),
    [
        (b'{"update_type":"order","order_id":"2611","status":"complete"}', Hint("2611", verified=False)),
        (b'{"update_type":"gtt_order","gtt_order_id":"GTT-1"}', None),
        (b'{"order_id":"../../x"}', None),
        (b"[]", None),
        (b"\xff", None),
        (b"[" * 100_000, None),
        (b"", None),
    ],
)
def test_a_postback_is_a_hint_and_never_verified(body: bytes, hint: Hint | None):
    with loopback(RECEIPT) as broker:
        assert adapter(broker).hint(SESSION, {}, body) == hint


def test_one_setting_serves_both_hosts():
    with loopback(RECEIPT) as broker:
        Upstox.from_env({"UPSTOX_BASE_URL": broker.url}).place(SESSION, [a_line()], timeout_s=2)
    assert broker.heard[0].target == "/v3/order/place"
