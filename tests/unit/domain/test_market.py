from datetime import UTC, date, datetime, timedelta

import pytest

from domain.market import IST, SIM, is_open, next_open, phase, phase_for, session_end, trading_day
from domain.reference import all_instruments


def ist(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=IST).astimezone(UTC)


@pytest.mark.parametrize(
    ("at", "name"),
    [
        ("2026-11-23 08:59:59", "CLOSED"),
        ("2026-11-23 09:00", "PRE_OPEN"),
        ("2026-11-23 09:05", "PRE_OPEN_LIMIT"),
        ("2026-11-23 09:10", "PRE_OPEN_MATCHING"),
        ("2026-11-23 09:14:59", "PRE_OPEN_MATCHING"),
        ("2026-11-23 09:15", "CONTINUOUS"),
        ("2026-11-23 15:29:59", "CONTINUOUS"),
        ("2026-11-23 15:30", "CLOSED"),
        ("2026-11-23 15:50", "POST_CLOSE"),
        ("2026-11-23 16:00", "CLOSED"),
    ],
)
def test_the_day_of_a_share_without_derivatives(at, name):
    assert phase("NSE", ist(at)).name == name


@pytest.mark.parametrize(
    ("at", "name"),
    [
        ("2026-11-23 15:14:59", "CONTINUOUS"),
        ("2026-11-23 15:15", "CAS_REFERENCE"),
        ("2026-11-23 15:20", "CAS"),
        ("2026-11-23 15:25", "CAS_LIMIT"),
        ("2026-11-23 15:30", "CAS_MATCHING"),
        ("2026-11-23 15:35", "CLOSED"),
        ("2026-11-23 15:50", "POST_CLOSE"),
    ],
)
def test_a_share_with_derivatives_ends_in_a_closing_auction(at, name):
    assert phase("NSE", ist(at), has_derivatives=True).name == name


@pytest.mark.parametrize(
    ("day", "at", "name"),
    [
        ("2026-07-31", "15:20", "CONTINUOUS"),  # the last day without a closing auction
        ("2026-08-03", "15:20", "CAS"),
        ("2026-07-31", "15:40", "POST_CLOSE"),
        ("2026-08-03", "15:40", "CLOSED"),
        ("2026-09-04", "09:07", "PRE_OPEN"),  # the last day of the old pre-open
        ("2026-09-07", "09:07", "PRE_OPEN_LIMIT"),
    ],
)
def test_each_generation_of_sessions_holds_from_its_day(day, at, name):
    assert phase("NSE", ist(f"{day} {at}"), has_derivatives=True).name == name


def test_derivatives_trade_until_1540_since_2026_08_03():
    assert not is_open("NFO", ist("2026-07-31 15:35"))
    assert is_open("NFO", ist("2026-08-03 15:39:59"))
    assert not is_open("NFO", ist("2026-08-03 15:40"))


def test_only_futures_have_a_pre_open_and_only_at_nse():
    at = ist("2026-11-23 09:01")

    assert phase("NFO", at, is_future=True).name == "PRE_OPEN"
    assert not is_open("NFO", at)
    assert not is_open("BFO", at, is_future=True)


def test_currency_trades_from_nine_to_five():
    assert is_open("CDS", ist("2026-11-23 09:00"))
    assert is_open("CDS", ist("2026-11-23 16:59:59"))
    assert not is_open("CDS", ist("2026-11-23 17:00"))


def test_no_stops_in_auctions():
    auction = phase("NSE", ist("2026-11-23 15:21"), has_derivatives=True)

    assert sorted(auction.order_types) == ["LIMIT", "MARKET"]
    assert (auction.ioc, auction.disclosed) == (False, False)


def test_a_holiday_is_closed_and_the_next_open_skips_it():
    at = ist("2026-11-24 11:00")

    assert phase("NSE", at).name == "CLOSED"
    assert next_open("NSE", at) == ist("2026-11-25 09:00")


def test_the_budget_sunday_was_open_and_the_muhurat_session_too():
    assert is_open("NSE", ist("2026-02-01 10:00"))
    assert is_open("NSE", ist("2026-11-08 18:30"))
    assert not is_open("NSE", ist("2026-11-08 10:00"))


def test_orders_are_taken_next_now_where_they_are_taken():
    at = ist("2026-11-23 11:00")

    assert next_open("NSE", at) == at
    assert next_open("NFO", ist("2026-11-23 15:40")) == ist("2026-11-25 09:15")


def test_a_session_ends_with_its_last_phase_that_takes_orders():
    assert session_end("NSE", ist("2026-11-23 09:01")) == ist("2026-11-23 15:30")
    assert session_end("NSE", ist("2026-11-23 09:01"), has_derivatives=True) == ist("2026-11-23 15:30")
    assert session_end("NFO", ist("2026-11-23 12:00")) == ist("2026-11-23 15:40")
    assert session_end("CDS", ist("2026-11-23 12:00")) == ist("2026-11-23 17:00")


def test_the_post_close_is_a_session_of_its_own():
    assert session_end("NSE", ist("2026-11-23 15:55")) == ist("2026-11-23 16:00")
    assert session_end("NSE", ist("2026-11-23 16:00")) == ist("2026-11-25 15:30")


def test_the_simulated_calendar_never_closes():
    at = ist("2026-11-22 03:00")

    assert is_open(SIM, at)
    assert next_open(SIM, at) == at
    assert session_end(SIM, at) == at + timedelta(days=1)


def test_the_trade_date_is_indias():
    assert trading_day(datetime(2026, 11, 22, 18, 29, tzinfo=UTC)) == date(2026, 11, 22)
    assert trading_day(datetime(2026, 11, 22, 18, 30, tzinfo=UTC)) == date(2026, 11, 23)


def test_an_instrument_brings_its_own_hours():
    instruments, at = all_instruments(date(2026, 11, 23)), ist("2026-11-23 15:17")

    assert phase_for(instruments["NSE:INFY"], "NSE", at).name == "CAS_REFERENCE"
    assert phase_for(instruments["NSE:20MICRONS"], "NSE", at).name == "CONTINUOUS"
    assert phase_for(instruments["NFO:NIFTY26DECFUT"], "NSE", at).name == "CONTINUOUS"
    assert phase_for(instruments["NSE:INFY"], SIM, at).name == "CONTINUOUS"


def test_an_unknown_exchange_is_an_error():
    with pytest.raises(ValueError, match="the sessions of NYSE are not known"):
        phase("NYSE", ist("2026-11-23 10:00"))


def test_a_window_is_told_in_indian_time():
    assert phase("NSE", ist("2026-11-23 09:06")).window == "09:05–09:10 IST"
