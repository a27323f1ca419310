"""Cursors: they come back as they were given, and nothing else is taken for one."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from readmodel.pages import BadCursor, TradePlace, id_cursor, read_id_cursor, read_trade_cursor, trade_cursor


@given(st.uuids())
def test_an_id_comes_back(row_id):
    assert read_id_cursor(id_cursor(str(row_id))) == str(row_id)


@given(
    st.datetimes(min_value=datetime(2000, 1, 1), max_value=datetime(2200, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    st.uuids(),
    st.text("ABNSE", min_size=1, max_size=5),
    st.text("0123456789ABC-", min_size=1, max_size=30),
)
def test_a_trades_place_comes_back_to_the_microsecond(at, order_id, exchange, trade_id):
    place = TradePlace(at, str(order_id), exchange, trade_id)

    assert read_trade_cursor(trade_cursor(place)) == place


@given(st.text(max_size=60))
def test_any_other_text_is_refused_and_nothing_else_happens(text):
    for read in (read_id_cursor, read_trade_cursor):
        with contextlib.suppress(BadCursor):
            read(text)


@pytest.mark.parametrize("text", ["", "A", "=", "é", "A" * 401, "AAAAAAAAAAAAAAAAAAAAAA\n"])
def test_what_is_no_cursor_is_refused(text):
    with pytest.raises(BadCursor):
        read_id_cursor(text)
    with pytest.raises(BadCursor):
        read_trade_cursor(text)
