"""Zerodha's writing side: place, autoslice, modify, cancel."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from brokers.simulator.book import WORKING, Ask, SimOrder
from brokers.simulator.clock import ist_date
from brokers.simulator.exchange import AlreadyFinal, BeingProcessed, Exchange
from brokers.simulator.faults import Kind
from brokers.simulator.rules import find_faults
from brokers.simulator.service import Call
from brokers.simulator.web import Answer
from brokers.simulator.zerodha.answers import (
    BEING_PROCESSED,
    NO_SUCH_ORDER,
    TOO_MANY_CHANGES,
    Refused,
    bad_input,
    success,
)
from brokers.simulator.zerodha.asks import read_order, read_terms
from brokers.simulator.zerodha.words import status_word

NAME = "zerodha"
ORDER_ID_FORM = "{day:%y%m%d}{number:013d}"
# Refused before there is an order; what the exchange itself looks at (band, freeze quantity) shows in the book instead.
_REFUSED_AT_ONCE = frozenset({"EXPIRED", "PRODUCT", "LOT", "TICK", "TRIGGER"})
_TYPES_WITH_ROW = {"FUNDS": "MarginException", "HOLDINGS": "HoldingException"}


class Orders:
    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def place(self, call: Call) -> Answer:
        form = call.request.form
        ask = read_order(form, call.path["variety"], self._exchange.listing, call.owner.user_id, call.plan)
        if not self._exchange.is_open and ask.variety != "amo":
            raise bad_input("Markets are closed right now. Use variety `amo` to place an after market order.")
        if form.get("autoslice") == "true":
            return self._place_slices(ask)
        return success({"order_id": self._place(ask).order_id})

    def modify(self, call: Call) -> Answer:
        order = self._find(call)
        terms = read_terms(call.request.form, order.terms)
        if order.modifications >= self._exchange.settings.modifications_max:
            raise TOO_MANY_CHANGES
        if order.status in WORKING:
            self._check(order.ask, replace(order.ask, terms=terms))
        refusal = call.plan.message(Kind.REFUSE_CHANGE, "The exchange refused the modification")
        try:
            self._exchange.modify(order, terms, forced_refusal=refusal)
        except AlreadyFinal:
            raise _final(order, "modified") from None
        except BeingProcessed:
            raise BEING_PROCESSED from None
        return success({"order_id": order.order_id})

    def cancel(self, call: Call) -> Answer:
        order = self._find(call)
        refusal = call.plan.message(Kind.REFUSE_CHANGE, "The exchange refused the cancellation")
        try:
            self._exchange.cancel(order, forced_refusal=refusal)
        except AlreadyFinal:
            raise _final(order, "cancelled") from None
        return success({"order_id": order.order_id})

    def _place(self, ask: Ask) -> SimOrder:
        """
        Raises:
            Refused: at once; for want of funds or holdings the order stands in the book, rejected.
        """
        self._check(ask, ask)
        order = self._exchange.place(ask, facade=NAME, id_form=ORDER_ID_FORM)
        kind = _TYPES_WITH_ROW.get(order.refusal_code)
        if kind is not None:
            self._exchange.reject_now(order)
            raise Refused(kind, order.refusal or "")
        return order

    def _check(self, ask: Ask, wanted: Ask) -> None:
        faults = find_faults(ask, wanted.terms, self._exchange.floor.market(ask.instrument))
        found = next((fault for fault in faults if fault.code in _REFUSED_AT_ONCE), None)
        if found is not None:
            raise bad_input(found.message.split(" : ")[-1])

    def _place_slices(self, ask: Ask) -> Answer:
        """One order for each part of at most the freeze quantity; some may fail, and the answer is a success still."""
        instrument, total = ask.instrument, ask.terms.quantity
        most = max(instrument.freeze_quantity // instrument.lot_size * instrument.lot_size, instrument.lot_size)
        if total <= most:
            raise bad_input(f"Quantity should be greater than or equal to {most + 1} for order slicing.")
        if -(-total // most) > self._exchange.settings.slices_max:
            raise bad_input(f"The order would be cut into more than {self._exchange.settings.slices_max} slices.")
        parent = f"{ORDER_ID_FORM.format(day=ist_date(self._exchange.now), number=9_000_000_000_000 + self._exchange.sequence)}"
        children: list[dict[str, Any]] = []
        for at in range(0, total, most):
            terms = replace(ask.terms, quantity=min(most, total - at))
            part = replace(ask, terms=terms, extra_tags=("autoslice", f"autoslice:{parent}"))
            try:
                children.append({"order_id": self._place(part).order_id})
            except Refused as refused:
                children.append({"error": refused.row()})
        return success({"order_id": parent, "children": children})

    def _find(self, call: Call) -> SimOrder:
        order = self._exchange.find(call.owner.user_id, call.path["order_id"])
        if order is None or order.ask.variety != call.path["variety"]:
            raise NO_SUCH_ORDER
        return order


def _final(order: SimOrder, done: str) -> Refused:
    return Refused("OrderException", f"Order cannot be {done} as it is {status_word(order.status)}.")
