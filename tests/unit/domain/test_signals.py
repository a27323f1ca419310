"""Templates: an order of what a signal says, or the field that is at fault; and never a crash."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from domain.errors import Malformed
from domain.intents import OrderLine
from domain.orders import OrderType, Product, Side, Validity
from domain.signals import SignalForm, digest_of, nonce_of, order_of, template_faults

TEMPLATE: dict[str, Any] = {
    "instrument": {"field": "ticker", "prefix": "NSE:", "aliases": {"nifty1!": "NFO:NIFTY-FUT"}},
    "side": {"field": "side", "map": {"buy": "BUY", "long": "BUY", "sell": "SELL"}},
    "quantity": {"field": "qty"},
    "product": {"value": "MIS"},
    "orderType": {"field": "type", "default": "MARKET"},
    "price": {"field": "price"},
    "triggerPrice": {"field": "stop"},
    "validity": {"field": "life", "default": "DAY"},
    "tag": {"field": "note"},
}
BODY = {"ticker": "INFY", "side": "buy", "qty": 10}


def a_form(template: dict[str, Any] | None = None, **form: Any) -> SignalForm:
    return SignalForm.model_validate({"template": {**TEMPLATE, **(template or {})}, **form})


def made(body: dict[str, Any], template: dict[str, Any] | None = None, **form: Any) -> OrderLine:
    return order_of(a_form(template, **form), "breakout", body)


def faults(body: dict[str, Any], template: dict[str, Any] | None = None) -> list[tuple[str, str]]:
    with pytest.raises(Malformed) as told:
        made(body, template)
    return [(fault.pointer, fault.code) for fault in told.value.faults]


def test_an_order_is_made_of_fields_fixed_values_and_defaults():
    line = made({**BODY, "note": "breakout"}, broker="UPSTOX", account="UP0001")

    assert (line.instrument, line.side, line.quantity) == ("NSE:INFY", Side.BUY, 10)
    assert (line.product, line.order_type, line.validity) == (Product.MIS, OrderType.MARKET, Validity.DAY)
    assert (line.broker, line.account, line.strategy, line.tag) == ("UPSTOX", "UP0001", "breakout", "breakout")


def test_the_orders_strategy_may_have_a_name_of_its_own():
    assert made(BODY, strategy="momentum").strategy == "momentum"


@pytest.mark.parametrize(
    ("ticker", "instrument"),
    [
        ("INFY", "NSE:INFY"),
        ("infy", "NSE:INFY"),
        (" TCS ", "NSE:TCS"),
        ("BSE:TCS", "BSE:TCS"),
        ("NIFTY1!", "NFO:NIFTY-FUT"),
        ("M&M", "NSE:M&M"),
    ],
)
def test_an_instrument_gets_its_prefix_or_its_alias(ticker: str, instrument: str):
    assert made({**BODY, "ticker": ticker}).instrument == instrument


@pytest.mark.parametrize(("side", "ours"), [("buy", Side.BUY), ("BUY", Side.BUY), ("Long", Side.BUY), ("sell", Side.SELL)])
def test_a_map_takes_words_in_any_case(side: str, ours: Side):
    assert made({**BODY, "side": side}).side is ours


@pytest.mark.parametrize(
    ("quantity", "units"), [(10, 10), ("10", 10), ("10.0", 10), (Decimal("10.00"), 10), (10_000_000, 10_000_000)]
)
def test_a_quantity_is_whole_however_it_is_written(quantity: Any, units: int):
    assert made({**BODY, "qty": quantity}).quantity == units


@pytest.mark.parametrize("quantity", [0, -1, 1.5, "1.5", "1e3", "", None, True, [], {}, "ten", 10_000_001, Decimal("NaN")])
def test_what_is_no_quantity_is_told_by_its_field(quantity: Any):
    body = {**BODY, "qty": Decimal(str(quantity)) if isinstance(quantity, float) else quantity}

    assert [pointer for pointer, _ in faults(body)] == ["/qty"]


def test_prices_count_only_for_orders_that_have_them():
    priced = {**BODY, "price": "1120.5", "stop": "1119"}

    assert made(priced).price is None
    limit = made({**priced, "type": "limit"})
    assert (limit.price, limit.trigger_price) == (Decimal("1120.50"), None)
    stop = made({**priced, "type": "SL"})
    assert (stop.price, stop.trigger_price) == (Decimal("1120.5"), Decimal("1119"))
    assert made({**priced, "type": "SL-M"}).price is None


@pytest.mark.parametrize("price", ["0", "-1", "1e3", "1120.12345", "1,120", "", None, True, "NaN", Decimal("1E+30"), Decimal("1E+999999")])
def test_what_is_no_price_is_told_by_its_field(price: Any):
    assert [pointer for pointer, _ in faults({**BODY, "type": "LIMIT", "price": price})] == ["/price"]


def test_every_fault_is_told_at_once():
    assert faults({"type": "LIMIT", "side": "hold"}) == [
        ("/ticker", "REQUIRED"),
        ("/side", "NOT_IN_MAP"),
        ("/qty", "REQUIRED"),
        ("/price", "REQUIRED"),
    ]


def test_a_price_that_the_template_takes_from_nowhere_is_its_own_fault():
    form = a_form()
    bare = SignalForm.model_validate({"template": {n: of for n, of in TEMPLATE.items() if n != "price"}})

    with pytest.raises(Malformed) as told:
        order_of(bare, "breakout", {**BODY, "type": "LIMIT"})

    assert [fault.pointer for fault in told.value.faults] == ["/template/price"]
    assert list(template_faults(form)) == []


def test_dots_lead_into_objects_and_a_forms_field_may_have_some():
    template = {"quantity": {"field": "order.size"}}

    assert made({**BODY, "order": {"size": 3}}, template).quantity == 3
    assert made({**BODY, "order.size": "4"}, template).quantity == 4
    assert faults({**BODY, "order": [1]}, template) == [("/order/size", "REQUIRED")]


def test_a_tag_keeps_what_it_can():
    assert made({**BODY, "note": "długi ✓ " + "x" * 80}).tag == ("d?ugi ? " + "x" * 80)[:64]
    assert made({**BODY, "note": ""}).tag is None


def test_no_fault_repeats_what_the_signal_said():
    secret = "sig_abcdefghijklmnopqrstuvwxyz012345"
    body = {"ticker": secret, "side": secret, "qty": secret, "type": secret, "life": secret, "nonce": secret * 9}

    with pytest.raises(Malformed) as told:
        made(body)
    with pytest.raises(Malformed) as also:
        nonce_of(body)

    assert secret not in str(told.value) + str(also.value)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"price": "1120"}, {"price": "1120.00"}, True),
        ({"price": "1120"}, {"price": Decimal("1.12E+3")}, True),
        ({"qty": "10"}, {"qty": 10}, True),
        ({"side": "long"}, {"side": "buy"}, True),
        ({"extra": 1}, {}, True),
        ({"price": "1120"}, {"price": "1120.05"}, False),
        ({"qty": 10}, {"qty": 11}, False),
        ({"side": "buy"}, {"side": "sell"}, False),
        ({"note": "a"}, {"note": "b"}, False),
    ],
)
def test_two_signals_are_the_same_when_their_orders_are(one: dict[str, Any], other: dict[str, Any], same: bool):
    known = {**BODY, "type": "LIMIT", "price": "1120"}
    digests = [digest_of(made({**known, **body})) for body in (one, other)]

    assert (digests[0] == digests[1]) is same


@pytest.mark.parametrize(("nonce", "text"), [("n1", "n1"), (7, "7"), (None, None), ("", None), (Decimal("1.5"), "1.5")])
def test_a_nonce_is_a_text_or_a_number(nonce: Any, text: str | None):
    assert nonce_of({"nonce": nonce}) == text


@pytest.mark.parametrize("nonce", [True, [], {}, "x" * 129, "a\nb", "\ud800"])
def test_what_is_no_nonce_is_refused(nonce: Any):
    with pytest.raises(Malformed) as told:
        nonce_of({"nonce": nonce})
    assert told.value.faults[0].pointer == "/nonce"


_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.decimals(allow_nan=True)
    | st.text(max_size=70)
    | st.sampled_from(["INFY", "NSE:INFY", "buy", "sell", "LIMIT", "SL", "10", "1120.05", "secret"])
)
_VALUES = st.recursive(
    _SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
)
_FIELDS = st.sampled_from(["ticker", "side", "qty", "type", "price", "stop", "life", "note", "nonce", "secret", "a.b"])


@given(body=st.dictionaries(_FIELDS | st.text(max_size=5), _VALUES, max_size=12))
def test_any_body_gives_an_order_or_names_the_fields_at_fault(body: dict[str, Any]):
    told: Malformed | None = None
    try:
        line, nonce = made(body), nonce_of(body)
    except Malformed as error:
        told = error
    if told is not None:
        known = {"/ticker", "/side", "/qty", "/type", "/price", "/stop", "/life", "/note", "/nonce"}
        assert told.faults
        assert {fault.pointer for fault in told.faults} <= known
        return
    assert OrderLine.model_validate(line.model_dump()) == line
    assert digest_of(line) == digest_of(made(body))
    assert nonce is None or 0 < len(nonce) <= 128


@given(form=_VALUES, name=st.sampled_from([*TEMPLATE]))
def test_any_template_is_taken_or_refused_and_what_is_taken_never_crashes(form: Any, name: str):
    try:
        found = SignalForm.model_validate({"template": {**TEMPLATE, name: form}})
    except ValidationError:
        return
    faults = list(template_faults(found))
    assert all(fault.pointer.startswith("/template/") for fault in faults)


@pytest.mark.parametrize(
    "source",
    [
        {},
        {"field": "a", "value": "b"},
        {"field": "secret"},
        {"field": "Secret.x"},
        {"field": "a..b"},
        {"field": "a", "map": {"buy": "BUY", "BUY": "SELL"}},
        {"value": True},
        {"value": 1.5},
        {"fields": "a"},
    ],
)
def test_a_source_is_a_field_or_a_value_and_no_secret(source: dict[str, Any]):
    with pytest.raises(ValidationError):
        a_form({"tag": source})


@pytest.mark.parametrize(
    ("template", "pointer"),
    [
        ({"side": {"value": "LONG"}}, "/template/side/value"),
        ({"product": {"field": "p", "default": "BO"}}, "/template/product/default"),
        ({"side": {"field": "s", "map": {"up": "UP"}}}, "/template/side/map/up"),
        ({"instrument": {"value": "INFY"}}, "/template/instrument/value"),
        ({"instrument": {"field": "t", "aliases": {"N": "NIFTY"}}}, "/template/instrument/aliases/N"),
        ({"orderType": {"value": "LIMIT"}, "price": None}, "/template/price"),
        ({"orderType": {"value": "SL-M"}, "triggerPrice": None}, "/template/triggerPrice"),
    ],
)
def test_a_template_that_can_make_no_order_says_where(template: dict[str, Any], pointer: str):
    assert [fault.pointer for fault in template_faults(a_form(template))] == [pointer]
