from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl

import loopback as far
import pytest
from given import INFY, NIFTY, SESSION, TAG, a_line, some_lines
from loopback import Loopback, loopback

from brokers.base import Funds, Hint
from brokers.dialects.zerodha import STATES
from brokers.transport import boot_clock
from brokers.zerodha import Zerodha
from domain.lifecycle import OrderState
from domain.money import Money
from domain.orders import OrderType, Product, Side, Validity
from domain.outcomes import Accepted, BookRow, Fill, NotSent, Refused, Unknown, Unreadable

RECEIPT = far.answer(200, '{"status":"success","data":{"order_id":"1953341975595868160"}}')
TIMED_OUT = "Order request timed out. Please check the order book and confirm before placing again."


def adapter(broker: Loopback) -> Zerodha:
    return Zerodha.from_env({"ZERODHA_BASE_URL": broker.url})


def place(act: far.Act, line=None, **given: Any):
    with loopback(act) as broker:
        (outcome,) = adapter(broker).place(SESSION, [line or a_line(**given)], timeout_s=2)
    return outcome, broker.heard


def error(status: int, kind: str, message: str = "no") -> far.Act:
    body = {"status": "error", "message": message, "error_type": kind, "data": None}
    return far.answer(status, json.dumps(body))


def test_an_order_goes_out_as_a_form_with_its_digits_kept():
    outcome, (heard,) = place(RECEIPT, price=Decimal("0.0025"))

    assert outcome == Accepted("1953341975595868160")
    assert (heard.method, heard.target) == ("POST", "/orders/regular")
    assert heard.headers["authorization"] == "token key1:hush-token"
    assert heard.headers["x-kite-version"] == "3"
    assert heard.headers["content-type"] == "application/x-www-form-urlencoded"
    assert dict(parse_qsl(heard.body.decode(), strict_parsing=True)) == {
        "exchange": "NSE",
        "tradingsymbol": "INFY",
        "transaction_type": "BUY",
        "order_type": "LIMIT",
        "quantity": "10",
        "product": "CNC",
        "price": "0.0025",
        "validity": "DAY",
        "tag": TAG,
    }


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ({"order_type": OrderType.MARKET}, {"market_protection": "-1", "price": None, "trigger_price": None}),
        ({"order_type": OrderType.SL_M, "trigger_price": Decimal(9)}, {"market_protection": "-1", "trigger_price": "9"}),
        ({"order_type": OrderType.MARKET, "market_protection": Decimal("2.5")}, {"market_protection": "2.5"}),
        ({"order_type": OrderType.SL, "trigger_price": Decimal("9.95")}, {"trigger_price": "9.95", "price": "1500.10"}),
        ({"price": Decimal("1E+3")}, {"price": "1000"}),
        ({"side": Side.SELL, "product": Product.NRML}, {"transaction_type": "SELL", "product": "NRML"}),
        ({"product": Product.MTF, "validity": Validity.IOC}, {"product": "MTF", "validity": "IOC"}),
        ({"disclosed_quantity": 5}, {"disclosed_quantity": "5"}),
        ({"instrument": replace(INFY, symbol="M&M")}, {"tradingsymbol": "M&M"}),
        ({"instrument": NIFTY}, {"exchange": "NFO", "tradingsymbol": "NIFTY26NOVFUT"}),
    ],
)  # fmt: skip
def test_each_term_has_its_word(given: dict[str, Any], sent: dict[str, str | None]):
    given = dict(given)
    _, (heard,) = place(RECEIPT, a_line(given.pop("instrument", INFY), **given))

    form = dict(parse_qsl(heard.body.decode()))
    assert {name: form.get(name) for name in sent} == sent


@pytest.mark.parametrize(
    "line",
    [a_line(replace(NIFTY, exchange="CDS")), a_line(price=None), a_line(order_type=OrderType.SL), a_line(broker_tag="")],
    ids=["counted in lots", "no price", "no trigger", "no tag"],
)  # fmt: skip
def test_what_cannot_be_said_is_refused_and_not_sent(line):
    outcome, heard = place(RECEIPT, line)

    assert isinstance(outcome, Refused)
    assert outcome.code == "NOT_TRANSLATABLE"
    assert heard == []


@pytest.mark.parametrize(
    ("act", "outcome"),
    [
        (error(400, "InputException", "bad price"), Refused("InputException", "bad price")),
        (error(400, "OrderException"), Refused("OrderException", "no")),
        (error(400, "MarginException", "Insufficient funds."), Refused("MarginException", "Insufficient funds.")),
        (error(400, "HoldingException"), Refused("HoldingException", "no")),
        (error(403, "PermissionException", "IP (1.2.3.4) …"), Refused("PermissionException", "IP (1.2.3.4) …")),
        (error(403, "UserException"), Refused("UserException", "no")),
        (error(403, "TokenException", "bad"), NotSent("403 TokenException: bad", session_dead=True)),
        (error(429, "NetworkException", "Too many requests"), NotSent("429 NetworkException: Too many requests", 1.0)),
        (error(400, "OrderException", TIMED_OUT), Unknown(f"400 OrderException: {TIMED_OUT}")),
        (error(400, "InputException", "Timeout at the OMS"), Unknown("400 InputException: Timeout at the OMS")),
        (error(400, "NetworkException"), Unknown("400 NetworkException: no")),
        (error(400, "GeneralException"), Unknown("400 GeneralException: no")),
        (error(400, "NewException"), Unknown("400 NewException: no")),
        (error(500, "OrderException"), Unknown("500 OrderException: no")),
        (error(503, "NetworkException", "Request failed (kitetrade-oms)"), Unknown("503 NetworkException: Request failed (kitetrade-oms)")),
        (error(504, "DataException"), Unknown("504 DataException: no")),
        (error(500, "InputException"), Unknown("500 InputException: no")),
        (far.answer(403, "<html>"), Unknown("403: <html>")),
        (far.answer(429, "slow down"), Unknown("429: slow down")),
        (far.answer(400, '{"status":"error","error_type":["InputException"]}'), Unknown('400: {"status":"error","error_type":["InputException"]}')),
        (far.answer(200, '{"status":"success","data":{}}'), Unknown('200: {"status":"success","data":{}}')),
        (far.answer(200, '{"status":"success","data":{"order_id":null}}'), Unknown('200: {"status":"success","data":{"order_id":null}}')),
        (far.answer(200, '{"status":"error","error_type":"InputException"}'), Unknown("200 InputException: ")),
    ],
)  # fmt: skip
def test_only_a_documented_no_is_a_no(act: far.Act, outcome: object):
    found, heard = place(act)

    assert found == outcome
    assert len(heard) == 1


def test_one_line_a_call():
    with loopback(RECEIPT) as broker:
        assert adapter(broker).place(SESSION, [], timeout_s=1) == []
        with pytest.raises(ValueError, match="2 lines"):
            adapter(broker).place(SESSION, some_lines(2), timeout_s=1)
    assert broker.heard == []


def test_past_the_lease_nothing_is_sent():
    with loopback(RECEIPT) as broker:
        outcomes = adapter(broker).place(SESSION, [a_line()], timeout_s=1, send_by=boot_clock() - 1)
    assert outcomes == [NotSent("the time to send it was over")]
    assert broker.heard == []


# ---- the book

ROW = {
    "order_id": "1953341975595868160", "exchange_order_id": None, "status": "OPEN", "status_message": None,
    "order_timestamp": "2026-11-23 10:15:02", "exchange_update_timestamp": "2026-11-23 10:15:04", "variety": "regular",
    "exchange": "NSE", "tradingsymbol": "INFY", "order_type": "LIMIT", "transaction_type": "BUY", "product": "CNC",
    "quantity": 10, "price": 1500.1, "trigger_price": 0, "average_price": 0, "filled_quantity": 0,
    "pending_quantity": 10, "cancelled_quantity": 0, "tag": TAG, "tags": [TAG], "guid": "x",
}  # fmt: skip
TRADE = {
    "trade_id": "10000000", "order_id": "1953341975595868160", "exchange": "NSE", "quantity": 4,
    "average_price": 1500.05, "fill_timestamp": "2026-11-23 10:15:03", "exchange_timestamp": "2026-11-23 10:15:03",
    "order_timestamp": "10:15:02",
}  # fmt: skip


def rows(*data: object) -> far.Act:
    return far.answer(200, json.dumps({"status": "success", "data": data}))


def book(*acts: far.Act):
    with loopback(*acts) as broker:
        found = adapter(broker).book(SESSION, timeout_s=2)
    return found, [heard.target for heard in broker.heard]


def test_an_order_is_read_with_its_fills():
    found, targets = book(rows({**ROW, "filled_quantity": 4, "average_price": 1500.05}), rows(TRADE, TRADE))

    assert found == [
        BookRow(
            broker_order_id="1953341975595868160",
            tag=TAG,
            state=OrderState.PARTIALLY_FILLED,
            status="OPEN",
            quantity=10,
            filled_quantity=4,
            average_price=Decimal("1500.05"),
            price=Decimal("1500.1"),
            at=datetime(2026, 11, 23, 4, 45, 4, tzinfo=UTC),
            fills=(
                Fill("10000000", "NSE", 4, Decimal("1500.05"), datetime(2026, 11, 23, 4, 45, 3, tzinfo=UTC)),
            ),
            order_type=OrderType.LIMIT,
        )
    ]  # fmt: skip
    assert targets == ["/orders", "/trades"]


def test_an_empty_book_is_a_book_of_one_read():
    assert book(rows()) == ([], ["/orders"])


@pytest.mark.parametrize(
    ("tag", "tags", "found"),
    [
        (TAG, [TAG], TAG),
        (TAG, None, TAG),
        (None, ["mktp", "mktp:2.00", TAG], TAG),
        ("mktp", [TAG, 7], TAG),
        ("hand", ["hand"], "hand"),
        (None, ["autoslice:1914227164488687616"], None),
        (None, [], None),
    ],
)
def test_the_tag_is_found_among_the_words_that_the_broker_adds(tag: object, tags: object, found: str | None):
    ((row,), _) = book(rows({**ROW, "tag": tag, "tags": tags}))

    assert row.tag == found


@pytest.mark.parametrize(
    ("status", "filled", "state"),
    [
        *[(status, 10 if state is OrderState.FILLED else 0, state) for status, state in STATES.items()],
        ("COMPLETE", 4, None),
        ("CANCELLED", 4, OrderState.CANCELLED),
        ("OPEN", 4, OrderState.PARTIALLY_FILLED),
        ("UPDATE", 4, None),
        ("A WORD OF TOMORROW", 0, None),
    ],
)
def test_every_documented_status_has_its_state(status: str, filled: int, state: OrderState | None):
    found, _ = book(rows({**ROW, "status": status, "filled_quantity": filled}), rows())

    assert not isinstance(found, Unreadable)
    assert (found[0].state, found[0].status) == (state, status)


@pytest.mark.parametrize(
    "act",
    [
        far.hang_up,
        far.answer(200, '{"status":"success"}'),
        far.answer(200, '{"status":"success","data":null}'),
        error(429, "NetworkException"),
        error(500, "GeneralException"),
        rows([]),
        rows({**ROW, "order_id": 1.5}),
        rows({**ROW, "quantity": None}),
        rows({**ROW, "filled_quantity": True}),
        rows({**ROW, "status": "x" * 65}),
    ],
)
def test_a_book_with_a_gap_is_no_book(act: far.Act):
    found, _ = book(act)

    assert isinstance(found, Unreadable)
    assert not found.session_dead


def test_a_dead_session_is_told_apart():
    assert book(error(403, "TokenException", "bad"))[0] == Unreadable("403 TokenException: bad", session_dead=True)


def test_a_message_is_made_fit_to_be_stored():
    ((row,), _) = book(rows({**ROW, "status_message": "a\x00b\ud800c" + "x" * 500}))

    assert row.message == "a b c" + "x" * 395


# ---- cancel, modify, funds, hints


def test_a_cancel_names_its_order_in_the_path():
    with loopback(RECEIPT, error(400, "OrderException"), RECEIPT, error(400, "OrderException", TIMED_OUT)) as broker:
        zerodha = adapter(broker)
        assert zerodha.cancel(SESSION, "1953341975595868160", timeout_s=2) == Accepted("1953341975595868160")
        assert isinstance(zerodha.cancel(SESSION, "7", timeout_s=2), Refused)
        assert isinstance(zerodha.cancel(SESSION, "a/b?c", timeout_s=2), Unknown)  # an answer of another order
        assert isinstance(zerodha.cancel(SESSION, "7", timeout_s=2), Unknown)

    assert [(heard.method, heard.target) for heard in broker.heard[:3]] == [
        ("DELETE", "/orders/regular/1953341975595868160"),
        ("DELETE", "/orders/regular/7"),
        ("DELETE", "/orders/regular/a%2Fb%3Fc"),
    ]


@pytest.mark.parametrize(
    ("terms", "changed", "sent"),
    [
        ({"price": Decimal("1499.95")}, {"price"}, {"price": "1499.95"}),
        ({"quantity": 4}, {"quantity"}, {"quantity": "4"}),
        ({}, {"disclosed_quantity"}, {"disclosed_quantity": "0"}),
        ({"validity": Validity.IOC}, {"validity"}, {"validity": "IOC"}),
        (
            {"order_type": OrderType.MARKET, "price": None},
            {"order_type", "price"},
            {"order_type": "MARKET", "market_protection": "-1"},
        ),
        (
            {"order_type": OrderType.SL_M, "price": None, "trigger_price": Decimal(1490)},
            {"trigger_price"},
            {"trigger_price": "1490"},
        ),
    ],
    ids=lambda value: "-".join(sorted(value)),
)
def test_a_modify_sends_what_has_changed_and_nothing_else(
    terms: dict[str, Any], changed: set[str], sent: dict[str, str]
):
    with loopback(RECEIPT) as broker:
        line = a_line(**terms)
        outcome = adapter(broker).modify(SESSION, "1953341975595868160", line, changed=changed, timeout_s=2)
    (heard,) = broker.heard

    assert outcome == Accepted("1953341975595868160")
    assert (heard.method, heard.target) == ("PUT", "/orders/regular/1953341975595868160")
    assert dict(parse_qsl(heard.body.decode())) == sent


def test_funds_are_read_in_paise():
    answer = '{"status":"success","data":{"equity":{"net":99725.055,"utilised":{"debits":10}},"commodity":{}}}'
    with loopback(far.answer(200, answer), far.answer(200, "{}"), error(403, "TokenException")) as broker:
        zerodha = adapter(broker)
        assert zerodha.funds(SESSION, timeout_s=2) == Funds(Money(9_972_506), Money(1_000))
        assert isinstance(zerodha.funds(SESSION, timeout_s=2), Unreadable)
        dead = zerodha.funds(SESSION, timeout_s=2)
    assert isinstance(dead, Unreadable)
    assert dead.session_dead


def postback(**changed: object) -> bytes:
    at = "2026-11-23 10:15:02"
    checksum = hashlib.sha256(f"1953{at}hush-secret".encode()).hexdigest()
    return json.dumps({"order_id": "1953", "order_timestamp": at, "checksum": checksum, **changed}).encode()


@pytest.mark.parametrize(
    ("body", "hint"),
    [
        (postback(), Hint("1953", verified=True)),
        (postback(status="COMPLETE"), Hint("1953", verified=True)),  # the checksum doesn't cover the rest
        (postback(order_id="1954"), Hint("1954", verified=False)),
        (postback(order_timestamp="2026-11-23 10:15:03"), Hint("1953", verified=False)),
        (postback(checksum=""), Hint("1953", verified=False)),
        (postback(checksum=None), Hint("1953", verified=False)),
        (postback(checksum="\ud800", order_timestamp="\ud800"), Hint("1953", verified=False)),
        (postback(order_id=1953), None),
        (postback(order_id="../x"), None),
        (b"[1]", None),
        (b"\xff\x00", None),
        (b"[" * 100_000, None),
    ],
)
def test_a_postback_is_verified_by_its_checksum(body: bytes, hint: Hint | None):
    with loopback(RECEIPT) as broker:
        assert adapter(broker).hint(SESSION, {}, body) == hint
