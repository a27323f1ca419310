"""What a Zerodha account has: margins, positions, holdings."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from brokers.simulator.accounts import Account, Position
from brokers.simulator.book import NOTHING
from brokers.simulator.exchange import Exchange
from brokers.simulator.service import Call
from brokers.simulator.web import Answer
from brokers.simulator.zerodha import words
from brokers.simulator.zerodha.answers import bad_input, success
from domain.instruments import Instrument

_PAISA = Decimal("0.01")


class Portfolio:
    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def margins(self, call: Call) -> Answer:
        return success({"equity": _funds(call.owner), "commodity": _funds(None)})

    def segment_margins(self, call: Call) -> Answer:
        match call.path["segment"]:
            case "equity":
                return success(_funds(call.owner))
            case "commodity":
                return success(_funds(None))
        raise bad_input("Invalid `segment`.")

    def positions(self, call: Call) -> Answer:
        rows = [self._position_row(position) for position in call.owner.positions.values()]
        return success({"net": rows, "day": rows})

    def holdings(self, call: Call) -> Answer:
        listing = self._exchange.listing
        return success([self._holding_row(listing[key], n) for key, n in call.owner.holdings.items() if n])

    def _position_row(self, position: Position) -> dict[str, Any]:
        instrument, last = position.instrument, self._exchange.last(position.instrument)
        bought, sold = position.bought_value.rupees, position.sold_value.rupees
        buy_price = (bought / position.bought).quantize(_PAISA) if position.bought else NOTHING
        sell_price = (sold / position.sold).quantize(_PAISA) if position.sold else NOTHING
        profit = position.profit(last).rupees
        return {
            "tradingsymbol": instrument.symbol,
            "exchange": instrument.exchange,
            "instrument_token": words.instrument_token(instrument),
            "product": position.product,
            "quantity": position.net,
            "overnight_quantity": position.carried,
            "multiplier": instrument.multiplier,
            "average_price": NOTHING if not position.net else buy_price if position.net > 0 else sell_price,
            "close_price": instrument.close if position.carried else 0,
            "last_price": last,
            "value": sold - bought,
            "pnl": profit,
            "m2m": profit,
            "unrealised": profit,
            "realised": 0,
            "buy_quantity": position.bought,
            "buy_price": buy_price,
            "buy_value": bought,
            "buy_m2m": bought,
            "sell_quantity": position.sold,
            "sell_price": sell_price,
            "sell_value": sold,
            "sell_m2m": sold,
            "day_buy_quantity": position.bought,
            "day_buy_price": buy_price,
            "day_buy_value": bought,
            "day_sell_quantity": position.sold,
            "day_sell_price": sell_price,
            "day_sell_value": sold,
        }

    def _holding_row(self, instrument: Instrument, count: int) -> dict[str, Any]:
        last = self._exchange.last(instrument)
        change = last - instrument.close
        return {
            "tradingsymbol": instrument.symbol,
            "exchange": instrument.exchange,
            "instrument_token": words.instrument_token(instrument),
            "isin": instrument.isin,
            "product": "CNC",
            "price": 0,
            "quantity": count,
            "used_quantity": 0,
            "t1_quantity": 0,
            "realised_quantity": count,
            "authorised_quantity": 0,
            "authorised_date": None,
            "opening_quantity": count,
            "short_quantity": 0,
            "collateral_quantity": 0,
            "collateral_type": "",
            "discrepancy": False,
            "average_price": instrument.close,
            "last_price": last,
            "close_price": instrument.close,
            "pnl": change * count,
            "day_change": change,
            "day_change_percentage": change * 100 / instrument.close,
        }


def _funds(account: Account | None) -> dict[str, Any]:
    """Of the equity segment, which holds all the money; or of the commodity segment, which holds none."""
    cash = account.cash.rupees if account else NOTHING
    free = account.available.rupees if account else NOTHING
    used = cash - free
    available = ("adhoc_margin", "collateral", "intraday_payin")
    utilised = [
        "exposure",
        "m2m_realised",
        "m2m_unrealised",
        "option_premium",
        "payout",
        "holding_sales",
        "turnover",
        "liquid_collateral",
        "stock_collateral",
        "delivery",
    ]
    return {
        "enabled": account is not None,
        "net": free,
        "available": dict.fromkeys(available, 0) | {"cash": cash, "opening_balance": cash, "live_balance": free},
        "utilised": dict.fromkeys(utilised, 0) | {"debits": used, "span": used},
    }
