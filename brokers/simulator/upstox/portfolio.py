"""Upstox's other reads: funds, positions, holdings, margin, brokerage, last prices, the instruments file."""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import orjson

from brokers.simulator.accounts import Position, margin_of
from brokers.simulator.book import NOTHING
from brokers.simulator.charges import charges_of
from brokers.simulator.exchange import Exchange
from brokers.simulator.service import Call
from brokers.simulator.upstox import words
from brokers.simulator.upstox.answers import BAD_INPUT, UNKNOWN_PATH, Problem, Refused, success
from brokers.simulator.upstox.asks import body_of
from brokers.simulator.web import Answer
from domain.instruments import Instrument
from domain.money import Money
from domain.orders import Product, Side

_KEYS_MAX = 500
_MARGIN_LINES_MAX = 20


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

    def margin(self, call: Call) -> Answer:
        lines = body_of(call.request)
        lines = lines.get("instruments") if isinstance(lines, dict) else None
        if not isinstance(lines, list) or not lines:
            raise Refused(BAD_INPUT)
        if len(lines) > _MARGIN_LINES_MAX:
            raise Refused(Problem("UDAPI1102", f"More than {_MARGIN_LINES_MAX} instruments", "instruments"))
        rows = [self._margin_row(line) for line in lines]
        total = sum((row["total_margin"] for row in rows), Decimal(0))
        return success({"margins": rows, "required_margin": total, "final_margin": total})

    def brokerage(self, call: Call) -> Answer:
        first = call.request.first
        instrument = self._instrument(first("instrument_token"), "UDAPI1059")
        product = words.product(first("product") or "", instrument)
        try:
            quantity, price = int(first("quantity") or ""), Decimal(first("price") or "")
            side = Side(first("transaction_type") or "")
        except (ValueError, ArithmeticError):
            raise Refused(BAD_INPUT) from None
        if product is None or quantity <= 0 or price <= 0:
            raise Refused(Problem("UDAPI1064", "The quantity, price or product is invalid"))
        charges = charges_of(instrument, product, side, quantity, price)
        other = {"transaction": charges.exchange.rupees, "clearing": 0.0, "sebi_turnover": charges.sebi.rupees}
        plan = {"name": "SIM", "min_expense": 0.0}
        row = {
            "total": charges.total.rupees,
            "brokerage": charges.brokerage.rupees,
            "taxes": {"gst": charges.gst.rupees, "stt": charges.stt.rupees, "stamp_duty": charges.stamp.rupees},
            "other_charges": {**other, "ipft": 0.0},
            "otherTaxes": other,
            "dp_plan": plan,
            "dpPlan": plan,
        }
        return success({"charges": row})

    def last_prices_v3(self, call: Call) -> Answer:
        return success(
            {
                f"{words.segment(i)}:{words.listed_symbol(i)}": {
                    "last_price": self._exchange.last(i),
                    "instrument_token": words.instrument_key(i),
                    "ltq": i.lot_size,
                    "volume": 100_000,
                    "cp": i.close,
                }
                for i in self._quoted(call)
            }
        )

    def last_prices_v2(self, call: Call) -> Answer:
        return success(
            {
                f"{words.segment(i)}:{words.listed_symbol(i)}": {
                    "last_price": self._exchange.last(i),
                    "instrument_token": words.instrument_key(i),
                }
                for i in self._quoted(call)
            }
        )

    def instruments_file(self, call: Call) -> Answer:
        """The gzipped JSON master; of one exchange, or `complete`."""
        wanted = call.path["name"]
        if wanted not in ("complete", "NSE", "BSE"):
            raise Refused(UNKNOWN_PATH)
        rows = [
            row
            for row in map(words.instrument_row, self._exchange.listing)
            if wanted == "complete" or row["exchange"] == wanted
        ]
        return Answer(body=gzip.compress(orjson.dumps(rows, default=float), 5), content_type="application/gzip")

    def _quoted(self, call: Call) -> Iterable[Instrument]:
        keys = [key for key in (call.request.first("instrument_key") or "").split(",") if key]
        if not keys:
            raise Refused(Problem("UDAPI1009", "Instrument key is required", "instrument_key"))
        if len(keys) > _KEYS_MAX:
            raise Refused(Problem("UDAPI100043", f"More than {_KEYS_MAX} instrument keys", "instrument_key"))
        return [self._instrument(key, "UDAPI1087") for key in keys]

    def _instrument(self, key: Any, code: str) -> Instrument:
        found = self._exchange.listing.by(words.instrument_key).get(key)
        if found is None:
            raise Refused(Problem(code, "The instrument key is invalid", "instrument_key", key))
        return found

    def _margin_row(self, line: dict[str, Any]) -> dict[str, Any]:
        instrument = self._instrument(line.get("instrument_key"), "UDAPI1099")
        product, quantity = words.product(str(line.get("product")), instrument), line.get("quantity")
        if product is None:
            raise Refused(Problem("UDAPI1100", "The product is required", "product"))
        if not isinstance(quantity, int) or quantity <= 0:
            raise Refused(Problem("UDAPI1096", "The quantity must be above 0", "quantity", quantity))
        if quantity % instrument.lot_size:
            raise Refused(Problem("UDAPI1104", "The quantity is not a multiple of the lot size", "quantity", quantity))
        if line.get("transaction_type") not in ("BUY", "SELL"):
            raise Refused(Problem("UDAPI1101", "The transaction type is required", "transaction_type"))
        side, price = Side(line["transaction_type"]), Decimal(line.get("price") or 0)
        total = margin_of(instrument, product, side, quantity, price or self._exchange.last(instrument)).rupees
        premium = total if instrument.is_option and side is Side.BUY else NOTHING
        future = total - premium if instrument.is_derivative else NOTHING
        return {
            "span_margin": future,
            "exposure_margin": 0.0,
            "equity_margin": NOTHING if instrument.is_derivative else total,
            "net_buy_premium": premium,
            "additional_margin": 0.0,
            "total_margin": total,
            "tender_margin": 0.0,
        }

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
