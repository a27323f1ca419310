from datetime import date, timedelta
from decimal import Decimal
from itertools import pairwise

import pytest

from domain.instruments import Kind
from domain.reference import aliases, all_instruments, cash_instruments, derivatives, expiries, tables
from domain.reference.calendar import is_trading_day, trading_day_on_or_before
from domain.reference.ticks import tick_for

SUNDAY = date(2026, 11, 22)
ISIN_LENGTH = 12


def test_there_are_two_hundred_cash_instruments_and_sixty_of_them_at_bse():
    exchanges = [instrument.exchange for instrument in cash_instruments()]

    assert len(exchanges) >= 200
    assert exchanges.count("BSE") >= 60


def test_every_isin_has_its_right_check_digit():
    assert [i.key for i in cash_instruments() if i.isin is None or not is_isin(i.isin)] == []


def test_a_cash_close_lies_on_its_tick():
    assert [i.key for i in cash_instruments() if i.close % i.tick] == []


def test_nse_ticks_are_those_of_the_table_for_the_close():
    wrong = [
        i.key
        for i in cash_instruments()
        if i.exchange == "NSE" and not is_fund(i.isin) and i.tick != tick_for("NSE_CASH", i.close, SUNDAY)
    ]

    assert wrong == []


def test_there_are_trade_to_trade_series_and_funds_to_try():
    series = {(i.exchange, i.series) for i in cash_instruments()}

    assert {("NSE", "EQ"), ("NSE", "BE"), ("BSE", "A"), ("BSE", "T"), ("BSE", "X")} <= series
    assert any(is_fund(i.isin) for i in cash_instruments())


@pytest.mark.parametrize(
    "today", [SUNDAY, date(2026, 11, 23), date(2026, 12, 31), date(2027, 2, 28), date(2028, 2, 29)]
)
def test_keys_and_tokens_are_unique_on_any_day(today):
    instruments = [*cash_instruments(), *derivatives(today)]

    assert len({i.key for i in instruments}) == len(instruments) == len(all_instruments(today))
    assert len({(i.exchange, i.token) for i in instruments}) == len(instruments)
    assert len(instruments) < 4_000


def test_a_contract_keeps_its_token_from_day_to_day():
    before, after = all_instruments(SUNDAY), all_instruments(SUNDAY + timedelta(days=9))
    shared = before.keys() & after.keys()

    assert len(shared) > 2_000
    assert all(before[key].token == after[key].token < 2**24 for key in shared)


@pytest.mark.parametrize(
    "today", [SUNDAY, date(2026, 11, 23), date(2026, 11, 24), date(2026, 12, 29), date(2027, 1, 26)]
)
def test_every_alias_names_a_contract_that_lives_on_that_day(today):
    instruments = all_instruments(today)

    assert all(instruments[key].expiry >= today for key in aliases(today).values())


def test_aliases_move_on_when_the_front_contract_ends():
    assert aliases(date(2026, 11, 23))["NFO:NIFTY-FUT"] == "NFO:NIFTY26NOVFUT"
    assert aliases(date(2026, 11, 24))["NFO:NIFTY-FUT"] == "NFO:NIFTY26DECFUT"
    assert aliases(date(2026, 11, 24))["NFO:NIFTY-CE-ATM"] == "NFO:NIFTY26D0124500CE"


def test_a_monthly_option_names_its_month_and_a_weekly_one_its_day():
    calls = {i.expiry: i.symbol for i in derivatives(SUNDAY) if i.underlying == "NIFTY" and is_call(i, 24_500)}

    assert calls == {
        date(2026, 11, 23): "NIFTY26NOV24500CE",
        date(2026, 12, 1): "NIFTY26D0124500CE",
        date(2026, 12, 8): "NIFTY26D0824500CE",
        date(2026, 12, 15): "NIFTY26D1524500CE",
        date(2026, 12, 29): "NIFTY26DEC24500CE",
    }


def test_an_expiry_on_a_holiday_is_the_trading_day_before():
    # 2026-11-24, a Tuesday, is Guru Nanak Jayanti.
    assert expiries.monthly("NFO", "TUESDAY", SUNDAY, 1) == [date(2026, 11, 23)]


def test_bse_contracts_end_on_thursdays():
    assert expiries.weekly("BFO", "THURSDAY", SUNDAY, 2) == [date(2026, 11, 26), date(2026, 12, 3)]


@pytest.mark.parametrize(
    ("today", "expiry"),
    [
        (date(2026, 9, 1), date(2026, 9, 28)),
        (date(2026, 10, 1), date(2026, 10, 28)),
        (date(2026, 11, 1), date(2026, 11, 26)),
    ],
)
def test_currency_contracts_end_two_trading_days_before_the_months_last(today, expiry):
    assert expiries.monthly("CDS", "CURRENCY", today, 1) == [expiry]


def test_a_contract_is_listed_on_its_last_day_and_gone_on_the_next():
    assert "NFO:NIFTY26NOVFUT" in all_instruments(date(2026, 11, 23))
    assert "NFO:NIFTY26NOVFUT" not in all_instruments(date(2026, 11, 24))


def test_index_lots_and_freeze_quantities():
    instruments = all_instruments(SUNDAY)
    found = {
        name: (instruments[key].lot_size, instruments[key].freeze_quantity)
        for name in ("NIFTY", "BANKNIFTY", "FINNIFTY", "MIDCPNIFTY", "NIFTYNXT50")
        for key in [aliases(SUNDAY)[f"NFO:{name}-FUT"]]
    }

    assert found == {
        "NIFTY": (65, 1_800),
        "BANKNIFTY": (30, 600),
        "FINNIFTY": (60, 1_800),
        "MIDCPNIFTY": (120, 2_800),
        "NIFTYNXT50": (25, 600),
    }


def test_a_close_of_a_derivative_lies_on_its_tick_and_is_at_least_one():
    assert [i.key for i in derivatives(SUNDAY) if i.close % i.tick or i.close < i.tick] == []


def test_a_call_is_worth_less_the_higher_its_strike():
    calls = sorted(
        (i for i in derivatives(SUNDAY) if i.underlying == "NIFTY" and i.kind is Kind.CALL and i.expiry.month == 12),
        key=lambda i: (i.expiry, i.strike),
    )

    assert all(low.close >= high.close for low, high in pairwise(calls) if low.expiry == high.expiry)


@pytest.mark.parametrize(
    ("price", "tick"),
    [
        ("249.99", "0.01"),
        ("250", "0.05"),
        ("1000", "0.05"),
        ("1000.05", "0.10"),
        ("5000", "0.10"),
        ("5000.10", "0.50"),
        ("10000", "0.50"),
        ("10000.50", "1.00"),
        ("20000", "1.00"),
        ("20001", "5.00"),
    ],
)
def test_the_tick_of_nse_shares_by_price(price, tick):
    assert tick_for("NSE_CASH", Decimal(price), date(2025, 4, 15)) == Decimal(tick)


def test_a_tick_table_holds_from_its_day():
    assert tick_for("NSE_CASH", Decimal(6_000), date(2025, 4, 14)) == Decimal("0.05")
    assert tick_for("NSE_STOCK_OPTION", Decimal(200), date(2025, 11, 2)) == Decimal("0.05")
    assert tick_for("NSE_STOCK_OPTION", Decimal(200), date(2025, 11, 3)) == Decimal("0.01")
    with pytest.raises(ValueError, match="no tick table NSE_CASH is known for 2020-01-01"):
        tick_for("NSE_CASH", Decimal(200), date(2020, 1, 1))


def test_a_weekend_day_can_be_a_trading_day_and_a_weekday_none():
    assert is_trading_day("NSE", date(2026, 2, 1))
    assert not is_trading_day("CDS", date(2026, 2, 1))
    assert not is_trading_day("NSE", date(2026, 11, 24))
    assert trading_day_on_or_before("NSE", date(2026, 11, 10)) == date(2026, 11, 9)


@pytest.mark.parametrize(
    "table", ["cash", "charges", "depository", "holidays", "plans", "sessions", "ticks", "underlyings"]
)
def test_every_row_says_where_it_comes_from(table):
    assert all(row["source"] for row in tables.read(table))


def is_isin(text: str) -> bool:
    """Letters count as two digits; then, from the right, every second digit is doubled (Luhn)."""
    if len(text) != ISIN_LENGTH:
        return False
    digits = [int(d) for c in text for d in str(int(c, 36))]
    return sum(sum(divmod(d * (1 + n % 2), 10)) for n, d in enumerate(reversed(digits))) % 10 == 0


def is_fund(isin: str) -> bool:
    return isin.startswith("INF")


def is_call(instrument, strike: int) -> bool:
    return instrument.kind is Kind.CALL and instrument.strike == strike
