"""Shape: every fault with its place, nothing echoed, and a fingerprint of what was meant."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from domain.errors import Malformed
from domain.intents import PlaceRequest
from ingress.problems import Problem
from ingress.shape import fingerprint, read_form, read_place_request


def a_line(**fields):
    known = {
        "correlationId": "leg-1",
        "instrument": "NSE:INFY",
        "side": "BUY",
        "quantity": 10,
        "product": "CNC",
        "orderType": "LIMIT",
        "price": "1512.50",
    }
    return {name: value for name, value in (known | fields).items() if value is not ...}


def read(*lines, **members) -> tuple[PlaceRequest, bytes]:
    return read_place_request(json.dumps({"orders": lines, **members}).encode(), lines_max=20)


def faults_of(*lines, **members) -> list[tuple[str, str]]:
    with pytest.raises(Malformed) as refused:
        read(*lines, **members)
    return [(fault.pointer, fault.code) for fault in refused.value.faults]


@pytest.mark.parametrize(
    ("fields", "pointer", "code"),
    [
        ({"quantity": 0}, "/orders/0/quantity", "NOT_POSITIVE"),
        ({"quantity": -5}, "/orders/0/quantity", "NOT_POSITIVE"),
        ({"quantity": 10_000_001}, "/orders/0/quantity", "TOO_LARGE"),
        ({"quantity": 10**400}, "/orders/0/quantity", "TOO_LARGE"),
        ({"quantity": 1.5}, "/orders/0/quantity", "NOT_AN_INTEGER"),
        ({"quantity": "10"}, "/orders/0/quantity", "NOT_AN_INTEGER"),
        ({"quantity": True}, "/orders/0/quantity", "NOT_AN_INTEGER"),
        ({"quantity": None}, "/orders/0/quantity", "NOT_AN_INTEGER"),
        ({"quantity": ...}, "/orders/0/quantity", "REQUIRED"),
        ({"price": "0"}, "/orders/0/price", "NOT_POSITIVE"),
        ({"price": "-1"}, "/orders/0/price", "NOT_POSITIVE"),
        ({"price": "1.00001"}, "/orders/0/price", "TOO_PRECISE"),
        ({"price": "100000000"}, "/orders/0/price", "TOO_LARGE"),
        ({"price": float("nan")}, "/orders/0/price", "NOT_A_DECIMAL"),
        ({"price": float("inf")}, "/orders/0/price", "NOT_A_DECIMAL"),
        ({"price": "NaN"}, "/orders/0/price", "NOT_A_DECIMAL"),
        ({"price": "1_000"}, "/orders/0/price", "NOT_A_DECIMAL"),
        ({"price": "1e3"}, "/orders/0/price", "NOT_A_DECIMAL"),
        ({"price": " 15"}, "/orders/0/price", "NOT_A_DECIMAL"),
        ({"price": "१५"}, "/orders/0/price", "NOT_A_DECIMAL"),
        ({"price": True}, "/orders/0/price", "NOT_A_DECIMAL"),
        ({"price": {"a": 1}}, "/orders/0/price", "NOT_A_DECIMAL"),
        ({"marketProtection": "101"}, "/orders/0/marketProtection", "TOO_LARGE"),
        ({"marketProtection": "-2"}, "/orders/0/marketProtection", "TOO_SMALL"),
        ({"side": "buy"}, "/orders/0/side", "NOT_ONE_OF"),
        ({"side": ["BUY"]}, "/orders/0/side", "NOT_ONE_OF"),
        ({"instrument": "INFY"}, "/orders/0/instrument", "BAD_FORM"),
        ({"instrument": "NSE:INFY\n"}, "/orders/0/instrument", "BAD_FORM"),
        ({"correlationId": "क"}, "/orders/0/correlationId", "BAD_FORM"),
        ({"correlationId": "a\x00b"}, "/orders/0/correlationId", "BAD_FORM"),
        ({"correlationId": "a" * 65}, "/orders/0/correlationId", "TOO_LONG"),
        ({"tag": ""}, "/orders/0/tag", "TOO_SHORT"),
        ({"qty": 1}, "/orders/0/qty", "UNKNOWN_FIELD"),
        ({"correlation_id": "x"}, "/orders/0/correlation_id", "UNKNOWN_FIELD"),
        ({"a/b~c": 1}, "/orders/0/a~1b~0c", "UNKNOWN_FIELD"),
    ],
)
def test_a_fault_names_its_place_and_its_kind(fields, pointer, code):
    assert faults_of(a_line(**fields)) == [(pointer, code)]


def test_every_fault_of_every_line_is_told():
    assert faults_of(a_line(quantity=0, price="x"), a_line(correlationId="leg-2", side=1)) == [
        ("/orders/0/quantity", "NOT_POSITIVE"),
        ("/orders/0/price", "NOT_A_DECIMAL"),
        ("/orders/1/side", "NOT_ONE_OF"),
    ]


def test_no_lines_and_no_list_are_told_apart():
    assert faults_of() == [("/orders", "TOO_FEW")]
    with pytest.raises(Malformed) as refused:
        read_place_request(b'{"orders": 1}', lines_max=20)
    assert [fault.code for fault in refused.value.faults] == ["NOT_A_LIST"]


def test_one_line_too_many_is_named():
    assert len(read(*(a_line(correlationId=f"leg-{number}") for number in range(20)))[0].orders) == 20
    assert faults_of(*(a_line(correlationId=f"leg-{number}") for number in range(21))) == [("/orders/20", "TOO_MANY")]


def test_a_repeated_correlation_id_is_named_where_it_repeats():
    assert faults_of(a_line(), a_line(correlationId="other"), a_line()) == [("/orders/2/correlationId", "REPEATED")]


def test_after_names_an_earlier_line():
    legs = [a_line(), a_line(correlationId="leg-2", after="leg-1"), a_line(correlationId="leg-3", after="leg-1")]

    assert [line.after for line in read(*legs)[0].orders] == [None, "leg-1", "leg-1"]


@pytest.mark.parametrize(
    ("first", "second", "faults"),
    [
        (None, "nobody", [("/orders/1/after", "NO_SUCH_LINE")]),
        (None, "leg-2", [("/orders/1/after", "ITSELF")]),
        ("leg-2", None, [("/orders/0/after", "LATER_LINE")]),
        ("leg-2", "leg-1", [("/orders/0/after", "CYCLE")]),
        ("leg-1", "nobody", [("/orders/0/after", "ITSELF"), ("/orders/1/after", "NO_SUCH_LINE")]),
        (None, 0, [("/orders/1/after", "NOT_A_STRING")]),
        (None, "", [("/orders/1/after", "TOO_SHORT")]),
    ],
)
def test_an_after_that_leads_nowhere_is_told_where_it_stands(first, second, faults):
    assert faults_of(a_line(after=first), a_line(correlationId="leg-2", after=second)) == faults


def test_a_policy_is_one_of_three_or_left_out():
    assert read(a_line())[0].policy is None
    assert read(a_line(), policy="FAIL_FAST")[0].policy == "FAIL_FAST"
    assert faults_of(a_line(), policy="MOST") == [("/policy", "NOT_ONE_OF")]
    assert read(a_line(), policy="ALL_OR_NONE")[1] != read(a_line())[1]  # another request, by its fingerprint


def test_only_the_first_faults_of_very_many_are_told():
    assert len(faults_of(*(a_line(quantity=0) for _ in range(200)))) == 50


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"orders": [}',
        b"\xff\xfe",
        b'{"orders": [], }',
        b"[" * 60_000,
        b'{"orders":' * 6_000,
        b'{"orders": "\\ud800"}',
        b'{"quantity": ' + b"1" * 5_000 + b"}",
        b"\xef\xbb\xbf{}",
    ],
)
def test_what_is_no_json_is_called_so(body):
    with pytest.raises(Problem) as refused:
        read_place_request(body, lines_max=20)
    assert refused.value.code == "MALFORMED_JSON"


@pytest.mark.parametrize("body", [b"null", b"[]", b'"text"', b"1", b"NaN"])
def test_json_that_is_no_object_is_malformed(body):
    with pytest.raises(Malformed) as refused:
        read_place_request(body, lines_max=20)
    assert [(fault.pointer, fault.code) for fault in refused.value.faults] == [("", "NOT_AN_OBJECT")]


@pytest.mark.parametrize(
    "twice",
    ['"quantity": 1, "quantity": 1000', '"quantity" : 1000, "quantity": 1', '"quantity": 1, "\\u0071uantity": 2'],
)
def test_a_field_given_twice_is_refused(twice):
    line = json.dumps(a_line(quantity=...))[:-1] + ", " + twice + "}"

    with pytest.raises(Problem) as refused:
        read_place_request(f'{{"orders": [{line}]}}'.encode(), lines_max=20)

    assert refused.value.code == "DUPLICATE_FIELD"


def test_escapes_alone_are_no_reason_to_refuse():
    body = json.dumps({"orders": [a_line()]}).replace("leg-1", "\\u006ceg-1").encode()

    request, canonical = read_place_request(body, lines_max=20)

    assert request.orders[0].correlation_id == "leg-1"
    assert canonical == read(a_line())[1]


def test_a_fault_never_repeats_what_was_sent():
    secret = "sk-do-not-log-me"
    with pytest.raises(Malformed) as refused:
        read(a_line(side=secret, price=secret, tag=[secret], correlationId=secret + "\n"))
    assert secret not in str(refused.value)


@pytest.mark.parametrize(
    ("spelling", "same"), [("1512.5", True), (1512.5, True), ("1512.5000", True), ("1512.51", False)]
)
def test_spellings_of_one_price_are_one_request(spelling, same):
    assert (read(a_line(price=spelling))[1] == read(a_line())[1]) is same


@pytest.mark.parametrize("price", [0.1, 99999999.9999, 12345678.1234, 0.0001, 1512.55, 83.0025])
def test_a_price_as_a_json_number_is_taken_exactly(price):
    assert read(a_line(price=price))[0].orders[0].price == Decimal(repr(price))


def test_the_order_of_fields_and_the_spaces_between_do_not_matter():
    line = a_line()
    backwards = dict(reversed(line.items()))
    spaced = json.dumps({"orders": [backwards]}, indent=3).encode()

    assert read_place_request(spaced, lines_max=20)[1] == read(line)[1]


def test_the_fingerprint_is_of_method_path_and_body():
    prints = {
        fingerprint(method, path, body)
        for method in ("POST", "PUT")
        for path in ("/v2/orders/multi", "/v3/orders/1")
        for body in (b"{}", b"[]")
    }
    assert len(prints) == 8


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(json_values)
def test_any_json_is_read_or_refused(value):
    _read_or_refuse(json.dumps(value).encode())


@given(
    st.dictionaries(st.sampled_from(sorted(a_line(tag="t", triggerPrice="1", account="a"))), json_values, max_size=3)
)
def test_any_value_in_any_field_is_read_or_refused(fields):
    _read_or_refuse(json.dumps({"orders": [a_line() | fields]}).encode())


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(body):
    _read_or_refuse(body)


ANYTHING: TypeAdapter[object] = TypeAdapter(object)


@given(json_values)
def test_any_json_of_no_form_has_its_fingerprint(value):
    try:
        _, canonical = read_form(json.dumps(value).encode(), ANYTHING)
    except Problem:
        return
    assert read_form(canonical, ANYTHING)[1] == canonical


def test_a_number_beyond_sixty_four_bits_keeps_every_digit_in_the_fingerprint():
    bodies = [f'{{"z": 1, "a": {number}}}'.encode() for number in (10**20, 10**20 + 1)]

    assert [read_form(body, ANYTHING)[1] for body in bodies] == [
        b'{"a":100000000000000000000,"z":1}',
        b'{"a":100000000000000000001,"z":1}',
    ]


def _read_or_refuse(body: bytes) -> None:
    try:
        request, canonical = read_place_request(body, lines_max=20)
    except (Malformed, Problem):
        return
    again, canonical_again = read_place_request(canonical, lines_max=20)
    assert (again, canonical_again) == (request, canonical)
