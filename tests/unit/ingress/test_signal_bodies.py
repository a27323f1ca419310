"""A signal's body: JSON, a form or text that is one of them; anything else is refused without a word of it."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ingress.problems import Problem
from ingress.signal_bodies import fields_of


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        (b'{"a": 1, "b": {"c": "d"}}', {"a": 1, "b": {"c": "d"}}),
        (b'\xef\xbb\xbf {"a": 1.50}', {"a": Decimal("1.50")}),
        (b"a=1&b=x+y&c=%26", {"a": "1", "b": "x y", "c": "&"}),
        (b"a=&b=2", {"a": "", "b": "2"}),
        (b"", {}),  # a template may want nothing of it
    ],
)
def test_fields_are_read(body: bytes, fields: dict):
    assert fields_of(body) == fields


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"INFY buy 10", "MALFORMED_JSON"),
        (b"{", "MALFORMED_JSON"),
        (b"[]", "MALFORMED_JSON"),
        (b'"text"', "MALFORMED_JSON"),
        (b'{"a": Infinity}', "MALFORMED_JSON"),
        (b"{" * 60_000, "MALFORMED_JSON"),
        (b"[" * 60_000, "MALFORMED_JSON"),
        (b'{"a": ' + b"9" * 5_000 + b"}", "MALFORMED_JSON"),
        (b'{"a":1e99999999999999999999}', "MALFORMED_JSON"),
        (b"\xff\xfe", "MALFORMED_JSON"),
        (b"a=1&a=2", "DUPLICATE_FIELD"),
        (b'{"a": {"b": 1, "b": 2}}', "DUPLICATE_FIELD"),
        (b"&".join(b"f%d=1" % number for number in range(300)), "MALFORMED_JSON"),
    ],
)
def test_what_is_neither_is_refused(body: bytes, code: str):
    with pytest.raises(Problem) as told:
        fields_of(body)
    assert told.value.code == code


@given(st.binary(max_size=300) | st.text(max_size=100).map(lambda text: text.encode("utf-8", "surrogatepass")))
@example(b'{"a":1e99999999999999999999}')
def test_any_bytes_are_read_or_refused(body: bytes):
    told: Problem | None = None
    fields = None
    try:
        fields = fields_of(body)
    except Problem as problem:
        told = problem

    assert isinstance(fields, dict) or (told is not None and told.code in ("MALFORMED_JSON", "DUPLICATE_FIELD"))
