"""What an Upstox account has: funds, positions, holdings."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from brokers.simulator.accounts import Position
from brokers.simulator.book import NOTHING
from brokers.simulator.exchange import Exchange
from brokers.simulator.service import Call
from brokers.simulator.upstox import words
from brokers.simulator.upstox.answers import Problem, Refused, success
from brokers.simulator.web import Answer
from domain.instruments import Instrument
from domain.money import Money
from domain.orders import Product


class Portfolio:
    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def funds_v2(self, call: Call) -> Answer:
        segment = call.request.first("segment")
        if segment not in (None, "SEC", "COM"):
            raise Refused(Problem("UDAPI1019", "The segment is invalid", "segment", segment))
        account = call.owner
        equity = _funds_row(account.blocked_total + account.used_total, account.available)
        data = {"equity": equity, "commodity": _funds_row(Money(0), Money(0))}
        if segment is not None:
            data = {"equity": data["equity"]} if segment == "SEC" else {"commodity": data["commodity"]}
        return success(data)

    def funds_v3(self, call: Call) -> Answer:
        account = call.owner
        used = (account.blocked_total + account.used_total).rupees
        zero_delivery = {"total": 0.0, "equity": 0.0, "fo_settlement": 0.0}
        loss = {"total": 0.0, "realised": 0.0, "unrealised": 0.0}
        margin_used = {
            "total": used,
            "mtf": 0.0,
            "loss": loss,
            "span_exposure": 0.0,
            "cash_margin_var_elm": used,
            "premium_present": 0.0,
            "delivery_margin": zero_delivery,
        }
        cash = {
            "opening_balance": account.cash.rupees,
            "added_today": 0.0,
            "withdrawn_today": 0.0,
            "amount_from_stock_sale": 0.0,
            "unpaid_charges": 0.0,
        }
        available = account.available.rupees
        pledged = {
            "margin_from_pledge": {"total": 0.0, "equity": 0.0, "mutual_funds": 0.0},
            "margin_used": {"total": 0.0},
        }
        return success(
            {
                "available_to_trade": {
                    "total": available,
                    "cash_available_to_trade": {"total": available, "cash": cash, "margin_used": margin_used},
                    "pledge_available_to_trade": pledged,
                },
                "unavailable_to_trade": {
                    "cash_unavailable_to_trade": {"unsettled_profit": {"todays_profit": 0.0, "previous_days": 0.0}},
                    "pledge_unavailable_to_trade": {"equity": 0.0, "mutual_funds": 0.0},
                },
            }
        )

    def positions(self, call: Call) -> Answer:
        return success([self._position_row(p) for p in call.owner.positions.values() if p.product is not Product.MTF])

    def mtf_positions(self, call: Call) -> Answer:
        return success([self._position_row(p) for p in call.owner.positions.values() if p.product is Product.MTF])

    def holdings(self, call: Call) -> Answer:
        listing = self._exchange.listing
        rows = [self._holding_row(listing[key], count) for key, count in call.owner.holdings.items() if count]
        return success(rows)

    def _position_row(self, position: Position) -> dict[str, Any]:
        instrument, last = position.instrument, self._exchange.last(position.instrument)
        bought, sold = position.bought_value.rupees, position.sold_value.rupees
        buy_price = (bought / position.bought).quantize(Decimal("0.01")) if position.bought else NOTHING
        sell_price = (sold / position.sold).quantize(Decimal("0.01")) if position.sold else NOTHING
        profit = position.profit(last).rupees
        symbol = words.book_symbol(instrument)
        long = max(position.carried, 0)
        short = max(-position.carried, 0)
        return {
            "exchange": instrument.exchange,
            "multiplier": instrument.multiplier,
            "value": bought - sold,
            "pnl": profit,
            "product": words.PRODUCTS[position.product],
            "instrument_token": words.instrument_key(instrument),
            "average_price": None if not position.net else buy_price if position.net > 0 else sell_price,
            "buy_value": bought,
            "overnight_quantity": position.carried,
            "day_buy_value": bought,
            "day_buy_price": buy_price,
            "overnight_buy_amount": position.carried_price * long,
            "overnight_buy_quantity": long,
            "day_buy_quantity": position.bought,
            "day_sell_value": sold,
            "day_sell_price": sell_price,
            "overnight_sell_amount": position.carried_price * short,
            "overnight_sell_quantity": short,
            "day_sell_quantity": position.sold,
            "quantity": position.net,
            "last_price": last,
            "unrealised": profit if position.net else 0.0,
            "realised": 0.0 if position.net else profit,
            "sell_value": sold,
            "trading_symbol": symbol,
            "tradingsymbol": symbol,
            "close_price": instrument.close,
            "buy_price": buy_price,
            "sell_price": sell_price,
        }

    def _holding_row(self, instrument: Instrument, count: int) -> dict[str, Any]:
        last, symbol = self._exchange.last(instrument), instrument.symbol
        change = last - instrument.close
        return {
            "isin": instrument.isin,
            "cnc_used_quantity": 0,
            "collateral_type": "WC",
            "company_name": instrument.name,
            "haircut": 0.0,
            "product": "D",
            "quantity": count,
            "trading_symbol": symbol,
            "tradingsymbol": symbol,
            "last_price": last,
            "close_price": instrument.close,
            "pnl": change * count,
            "day_change": change,
            "day_change_percentage": change * 100 / instrument.close,
            "instrument_token": words.instrument_key(instrument),
            "average_price": instrument.close,
            "collateral_quantity": 0,
            "collateral_update_quantity": 0,
            "t1_quantity": 0,
            "exchange": instrument.exchange,
        }


def _funds_row(used: Money, available: Money) -> dict[str, Any]:
    return {
        "used_margin": used.rupees,
        "payin_amount": 0.0,
        "span_margin": 0.0,
        "adhoc_margin": 0.0,
        "notional_cash": 0.0,
        "available_margin": available.rupees,
        "exposure_margin": 0.0,
    }
