"""JSON and array literals for columns: exact, and nothing that the database would refuse."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.orders import Side
from store.json import dump, storable
from store.unit import array, text_array

ANY_TEXT = st.text(st.characters(exclude_categories=()))


def test_decimals_keep_their_digits_and_never_become_floats() -> None:
    assert dump({"price": Decimal("1500.0500"), "tiny": Decimal("1E-4")}) == '{"price":"1500.0500","tiny":"0.0001"}'


def test_our_own_words_become_text() -> None:
    said = dump({"side": Side.BUY, "reasons": ("a", "b"), "at": datetime(2026, 11, 23, tzinfo=UTC)})

    assert json.loads(said) == {
        "side": "BUY",
        "reasons": ["a", "b"],
        "at": "2026-11-23T00:00:00+00:00",
    }


def test_what_has_no_json_form_is_refused() -> None:
    with pytest.raises(TypeError):
        dump({"what": object()})


def test_a_nul_and_half_a_character_become_blanks() -> None:
    assert json.loads(dump({"a\x00": ["b\ud800c", {"d": "\x00"}]})) == {"a ": ["b c", {"d": " "}]}
    assert storable("a\x00b\udfffc") == "a b c"


def test_a_backslash_before_u0000_is_kept() -> None:
    assert json.loads(dump({"text": "\\u0000"})) == {"text": "\\u0000"}


@given(ANY_TEXT)
def test_any_text_ends_storable(text: str) -> None:
    stored = storable(text)

    assert "\x00" not in stored
    assert stored.encode().decode() == stored
    assert len(stored) == len(text)
    assert json.loads(dump([text])) == [stored]


def test_an_array_of_plain_values() -> None:
    assert array(["a", 1, None, Decimal("1.50")]) == "{a,1,NULL,1.50}"
    assert array([]) == "{}"


def test_an_array_of_any_text_is_quoted() -> None:
    assert text_array(['a"b', "c\\d", None, "NULL", ""]) == '{"a\\"b","c\\\\d",NULL,"NULL",""}'
