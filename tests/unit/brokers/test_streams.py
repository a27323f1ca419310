"""What a frame of a broker's order stream says, in our words; whatever else comes is refused or passed over."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from given import SESSION, TAG
from hypothesis import given
from hypothesis import strategies as st

from brokers.answers import Unfit
from brokers.streams import registry
from brokers.streams.base import Address, OrderStream, is_as_safe, websocket_url
from brokers.streams.upstox import UpstoxStream
from brokers.streams.zerodha import ZerodhaStream
from brokers.transport import Answered, NeverSent
from domain.lifecycle import OrderState
from domain.outcomes import Unreadable

UPSTOX, ZERODHA = UpstoxStream("https://api.upstox.com"), ZerodhaStream("wss://ws.kite.trade")
UPSTOX_ORDER: dict[str, Any] = {
    "update_type": "order",
    "user_id": "AB1234",
    "exchange": "NSE",
    "instrument_token": "NSE_EQ|INE009A01021",
    "trading_symbol": "INFY-EQ",
    "product": "D",
    "order_type": "LIMIT",
    "average_price": 1500.05,
    "price": 1501.0,
    "trigger_price": 0.0,
    "quantity": 10,
    "pending_quantity": 6,
    "filled_quantity": 4,
    "transaction_type": "BUY",
    "exchange_order_id": "1300000025660919",
    "validity": "DAY",
    "status": "open",
    "tag": TAG,
    "order_id": "261122000000021",
    "order_timestamp": "2026-11-22 10:15:02",
}
ZERODHA_ORDER: dict[str, Any] = {
    "user_id": "AB1234",
    "unfilled_quantity": 6,
    "checksum": "",
    "placed_by": "AB1234",
    "order_id": "261122000000021",
    "exchange_order_id": "1300000025660919",
    "status": "UPDATE",
    "status_message": None,
    "order_timestamp": "2026-11-22 10:15:00",
    "exchange_update_timestamp": "2026-11-22 10:15:02",
    "quantity": 10,
    "filled_quantity": 4,
    "pending_quantity": 6,
    "price": 1501,
    "trigger_price": 0,
    "average_price": 1500.05,
    "tag": "mktp",
    "tags": ["mktp", TAG],
}


def upstox(**changed: Any) -> str:
    return json.dumps({name: value for name, value in (UPSTOX_ORDER | changed).items() if value is not ...})


def zerodha(**changed: Any) -> str:
    order = {name: value for name, value in (ZERODHA_ORDER | changed).items() if value is not ...}
    return json.dumps({"type": "order", "data": order})


def test_upstox_shows_an_order_in_full() -> None:
    row = UPSTOX.row(upstox())

    assert row is not None
    assert (row.broker_order_id, row.tag, row.state) == ("261122000000021", TAG, OrderState.PARTIALLY_FILLED)
    assert (row.quantity, row.filled_quantity, row.average_price) == (10, 4, Decimal("1500.05"))
    assert (row.fills, row.exchange_order_id) == ((), "1300000025660919")


def test_zerodhas_update_is_no_state_and_its_quantities_count() -> None:
    row = ZERODHA.row(zerodha())

    assert row is not None
    assert (row.tag, row.state, row.filled_quantity) == (TAG, None, 4)


@pytest.mark.parametrize(("stream", "frame", "state"), [
    (UPSTOX, upstox(status="complete", filled_quantity=10), OrderState.FILLED),
    (UPSTOX, upstox(status="cancelled"), OrderState.CANCELLED),
    (UPSTOX, upstox(status="trigger pending", filled_quantity=0), OrderState.TRIGGER_PENDING),
    (UPSTOX, upstox(status="put order req received"), OrderState.SUBMITTED),
    (UPSTOX, upstox(status="modify pending"), None),
    (UPSTOX, upstox(status="a word of tomorrow"), None),
    (UPSTOX, upstox(status="complete"), None),  # with 4 of 10 it lags behind itself
    (ZERODHA, zerodha(status="COMPLETE", filled_quantity=10), OrderState.FILLED),
    (ZERODHA, zerodha(status="REJECTED", filled_quantity=0), OrderState.REJECTED),
    (ZERODHA, zerodha(status="OPEN", filled_quantity=0), OrderState.OPEN),
    (ZERODHA, zerodha(status="A WORD OF TOMORROW"), None),
])  # fmt: skip
def test_a_status_is_ours_or_none(stream: OrderStream, frame: str, state: OrderState | None) -> None:
    row = stream.row(frame)

    assert row is not None
    assert row.state is state


@pytest.mark.parametrize(("stream", "frame"), [(UPSTOX, upstox(tag=...)), (ZERODHA, zerodha(tag=None, tags=...))])
def test_a_tag_may_be_missing(stream: OrderStream, frame: str) -> None:
    row = stream.row(frame)

    assert row is not None
    assert (row.tag, row.broker_order_id) == (None, "261122000000021")


@pytest.mark.parametrize(("stream", "frame"), [
    (UPSTOX, json.dumps({"update_type": "position", "quantity": 1})),
    (UPSTOX, json.dumps({"update_type": "gtt_order", "gtt_order_id": "GTT-1"})),
    (ZERODHA, b"\0"),
    (ZERODHA, b"\0\1\0\10\0\0\0\0\0\0\0\0"),
    (ZERODHA, json.dumps({"type": "message", "data": "hello"})),
    (ZERODHA, json.dumps({"type": "error", "data": "subscribe less"})),
])  # fmt: skip
def test_what_is_about_something_else_is_passed_over(stream: OrderStream, frame: str | bytes) -> None:
    assert stream.row(frame) is None


JUNK = ["", "null", "[]", "1", "{", "<html></html>", '{"type": "order"}', '{"type": "order", "data": []}', "[" * 5000]


@pytest.mark.parametrize("frame", [
    *(frame for frame in JUNK if "type" not in frame),
    upstox(order_id=...), upstox(order_id=None), upstox(order_id="a b"), upstox(order_id=1.5), upstox(status=...),
    upstox(status=7), upstox(quantity="ten"), upstox(filled_quantity=...), upstox(filled_quantity=-1),
    upstox(filled_quantity=0.5), upstox(average_price="much"), upstox(quantity=True),
])  # fmt: skip
def test_junk_of_upstox_is_refused(frame: str) -> None:
    with pytest.raises(Unfit):
        UPSTOX.row(frame)


@pytest.mark.parametrize("frame", [
    *JUNK, zerodha(order_id=...), zerodha(status=None), zerodha(quantity=None), zerodha(filled_quantity="4"),
])  # fmt: skip
def test_junk_of_zerodha_is_refused(frame: str) -> None:
    with pytest.raises(Unfit):
        ZERODHA.row(frame)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda inner: st.lists(inner, max_size=3)
)


@given(st.dictionaries(st.sampled_from([*UPSTOX_ORDER, *ZERODHA_ORDER]), VALUES, max_size=6), st.text(), st.binary())
def test_whatever_comes_is_a_row_or_nothing_or_refused(changed: dict[str, Any], text: str, raw: bytes) -> None:
    upstox_frames = (json.dumps(UPSTOX_ORDER | changed), text, raw)
    zerodha_frames = (json.dumps({"type": "order", "data": ZERODHA_ORDER | changed}), text, raw)
    for stream, frames in ((UPSTOX, upstox_frames), (ZERODHA, zerodha_frames)):
        for frame in frames:
            try:
                row = stream.row(frame)
            except Unfit:
                continue
            assert row is None or row.filled_quantity >= 0


class FakeWire:
    def __init__(self, answer: Any) -> None:
        self.answer, self.asked = answer, []  # type: ignore[var-annotated]

    def call(self, operation: str, method: str, target: str, *, headers: Any, deadline: Any) -> Any:
        self.asked.append((operation, method, target, headers["Authorization"]))
        return self.answer


def authorized(answer: Any, base_url: str = "https://api.upstox.com") -> tuple[Address | Unreadable, FakeWire]:
    stream, wire = UpstoxStream(base_url), FakeWire(answer)
    stream._wire = wire  # type: ignore[assignment]
    return stream.address(SESSION, timeout_s=1), wire


def answered(data: Any, status: int = 200) -> Answered:
    return Answered(status, {"status": "success", "data": data}, "", {}, 0.0)


@pytest.mark.parametrize("name", ["authorized_redirect_uri", "authorizedRedirectUri"])
def test_upstox_authorises_each_connection_and_spells_its_address_in_two_ways(name: str) -> None:
    address, wire = authorized(answered({name: "wss://ws.upstox.com/feed?code=c0de"}))

    assert address == Address("wss://ws.upstox.com/feed?code=c0de")
    assert [asked[1:] for asked in wire.asked] == [
        ("GET", "/v2/feed/portfolio-stream-feed/authorize?update_types=order", "Bearer hush-token")
    ]
    assert "c0de" not in repr(address)


@pytest.mark.parametrize("answer", [
    answered({}),
    answered(None),
    answered({"authorized_redirect_uri": 7}),
    answered({"authorized_redirect_uri": "https://api.upstox.com/"}),
    answered({"authorized_redirect_uri": "ws://ws.upstox.com/feed"}),  # less protected than the call was
    answered({"authorized_redirect_uri": "wss:///feed"}),
    answered({"authorized_redirect_uri": "wss://ws.upstox.com:none/"}),
    NeverSent("no connection"),
    Answered(502, None, "<html>", {}, 0.0),
])  # fmt: skip
def test_an_answer_without_a_fit_address_gives_none(answer: Any) -> None:
    address, _ = authorized(answer)

    assert isinstance(address, Unreadable)
    assert not address.session_dead


def test_a_dead_session_is_told_as_one() -> None:
    body = {"status": "error", "errors": [{"errorCode": "UDAPI100050", "message": "Invalid token"}]}

    address, _ = authorized(Answered(401, body, "", {}, 0.0))

    assert isinstance(address, Unreadable)
    assert address.session_dead


def test_the_tickers_address_is_the_sessions_own() -> None:
    address = ZERODHA.address(SESSION, timeout_s=1)

    assert isinstance(address, Address)
    assert address.url == "wss://ws.kite.trade/?api_key=key1&access_token=hush-token"
    assert "hush" not in repr(address)


@pytest.mark.parametrize(("env", "url"), [
    ({}, "wss://ws.kite.trade"),
    ({"ZERODHA_BASE_URL": "http://127.0.0.1:9"}, "ws://127.0.0.1:9"),
    ({"ZERODHA_BASE_URL": "https://kite.example"}, "wss://kite.example"),
    ({"ZERODHA_BASE_URL": "http://127.0.0.1:9", "ZERODHA_STREAM_URL": "ws://127.0.0.1:10"}, "ws://127.0.0.1:10"),
])  # fmt: skip
def test_the_ticker_is_where_the_environment_says(env: dict[str, str], url: str) -> None:
    address = registry.build(env)["zerodha"].address(SESSION, timeout_s=1)

    assert isinstance(address, Address)
    assert address.url.partition("/?")[0] == url


def test_a_base_url_without_protection_allows_both() -> None:
    assert is_as_safe("ws://127.0.0.1:9/x", "http://127.0.0.1:8")
    assert is_as_safe("wss://127.0.0.1:9/x", "http://127.0.0.1:8")
    assert websocket_url("https://a.example/") == "wss://a.example"
