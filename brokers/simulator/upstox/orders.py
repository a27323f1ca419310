"""Upstox's writing side: place, multi-place, modify, cancel, multi-cancel, exit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from brokers.simulator.book import Ask, SimOrder, Terms
from brokers.simulator.exchange import AlreadyFinal, BeingProcessed, Exchange
from brokers.simulator.faults import Kind, Plan
from brokers.simulator.service import Call
from brokers.simulator.upstox import words
from brokers.simulator.upstox.answers import (
    NO_SUCH_ORDER,
    NOT_CANCELLABLE,
    NOT_MODIFIABLE,
    Problem,
    Refused,
    success,
    summed_up,
)
from brokers.simulator.upstox.asks import body_of, find_term_problems, order_id_of, read_order, read_terms
from brokers.simulator.web import Answer, Request
from domain.orders import OrderType, Side

NAME = "upstox"
ORDER_ID_FORM = "{day:%y%m%d}{number:09d}"
_CORRELATION_MAX = 20
_LATENCY_MS = 21


class Orders:
    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def place_v3(self, call: Call) -> Answer:
        ask, slices = read_order(body_of(call.request), self._exchange.listing, call.owner.user_id, call.plan)
        parts = self._cut(ask) if slices else [ask]
        return success({"order_ids": [self._place(part).order_id for part in parts]}, latency_ms=_LATENCY_MS)

    def place_v2(self, call: Call) -> Answer:
        ask, _ = read_order(body_of(call.request), self._exchange.listing, call.owner.user_id, call.plan)
        return success({"order_id": self._place(ask).order_id})

    def place_multi(self, call: Call) -> Answer:
        """First the form of the whole batch, then line by line: all that buy, then all that sell."""
        lines = body_of(call.request)
        if not isinstance(lines, list) or not lines:
            raise Refused(Problem("UDAPI1114", "At least one order is required"))
        asks: list[tuple[str, Ask]] = []
        errors: list[dict[str, Any]] = []
        for line, problems in zip(lines, _correlation_problems(lines), strict=True):
            name = line.get("correlation_id") if isinstance(line, dict) else None
            try:
                if problems:
                    raise Refused(*problems)
                ask, slices = read_order(line, self._exchange.listing, call.owner.user_id, call.plan)
                parts = self._cut(ask) if slices else [ask]
            except Refused as refused:
                errors += [problem.row(correlation_id=name) for problem in refused.problems[:1]]
                continue
            names = [f"{name}_{k}" for k in range(1, len(parts) + 1)] if len(parts) > 1 else [str(name)]
            asks += zip(names, parts, strict=True)
        if errors:
            summary = {"total": len(lines), "payload_error": len(errors), "success": 0, "error": 0}
            return summed_up([], errors, summary)
        _want_few(len(asks), self._exchange.settings.upstox_lines_max)
        return self._execute(asks, call.plan)

    def modify(self, call: Call, *, latency_ms: int | None) -> Answer:
        line = body_of(call.request)
        if not isinstance(line, dict):
            line = {}
        order = self._find(call, order_id_of(line.get("order_id"), code="UDAPI1003"))
        problems = list(find_term_problems(line))
        quantity = line.get("quantity")
        if quantity is not None and (not isinstance(quantity, int) or quantity < 0):
            problems.append(Problem("UDAPI1052", "The quantity cannot be zero", "quantity", quantity))
        if problems:
            raise Refused(*problems)
        refusal = call.plan.message(Kind.REFUSE_CHANGE, "The exchange refused the modification")
        try:
            self._exchange.modify(order, read_terms(line, order.terms), forced_refusal=refusal)
        except AlreadyFinal:
            raise Refused(NOT_MODIFIABLE) from None
        except BeingProcessed:
            raise Refused(replace(NOT_MODIFIABLE, message="The order is being processed; try again")) from None
        return success({"order_id": order.order_id}, latency_ms=latency_ms)

    def modify_v3(self, call: Call) -> Answer:
        return self.modify(call, latency_ms=_LATENCY_MS)

    def modify_v2(self, call: Call) -> Answer:
        return self.modify(call, latency_ms=None)

    def cancel(self, call: Call, *, latency_ms: int | None) -> Answer:
        order = self._find(call, order_id_of(call.request.first("order_id"), code="UDAPI1023"))
        refusal = call.plan.message(Kind.REFUSE_CHANGE, "The exchange refused the cancellation")
        try:
            self._exchange.cancel(order, forced_refusal=refusal)
        except AlreadyFinal:
            raise Refused(NOT_CANCELLABLE) from None
        return success({"order_id": order.order_id}, latency_ms=latency_ms)

    def cancel_v3(self, call: Call) -> Answer:
        return self.cancel(call, latency_ms=_LATENCY_MS)

    def cancel_v2(self, call: Call) -> Answer:
        return self.cancel(call, latency_ms=None)

    def cancel_multi(self, call: Call) -> Answer:
        """Cancels what is open and matches; no filter means everything."""
        tag, segment = call.request.first("tag"), call.request.first("segment")
        if segment is not None and segment not in words.SEGMENTS.values():
            raise Refused(Problem("UDAPI1108", "The segment is invalid", "segment", segment))
        found = [
            order
            for order in self._exchange.book(call.owner.user_id)
            if not order.is_final
            and (tag is None or order.ask.tag == tag)
            and (segment is None or words.segment(order.instrument) == segment)
        ]
        if not found:
            raise Refused(Problem("UDAPI1109", "No open orders available to cancel"))
        if len(found) > self._exchange.settings.upstox_lines_max:
            raise Refused(Problem("UDAPI1110", "There are more open orders than can be cancelled at once"))
        refusal = call.plan.message(Kind.REFUSE_CHANGE, "The exchange refused the cancellation")
        for order in found:
            self._exchange.cancel(order, forced_refusal=refusal)
        ids = [order.order_id for order in found]
        return summed_up({"order_ids": ids}, [], {"total": len(ids), "success": len(ids), "error": 0})

    def exit_positions(self, call: Call) -> Answer:
        """Closes the account's positions by market orders: what was bought first."""
        segment = call.request.first("segment")
        positions = [
            p
            for p in call.owner.positions.values()
            if p.net and (segment is None or words.segment(p.instrument) == segment)
        ]
        if not positions:
            raise Refused(Problem("UDAPI1111", "No open positions available to exit"))
        parts: list[Ask] = []
        for position in sorted(positions, key=lambda p: p.net < 0):
            ask = Ask(
                account=call.owner.user_id,
                instrument=position.instrument,
                side=Side.SELL if position.net > 0 else Side.BUY,
                product=position.product,
                terms=Terms(quantity=abs(position.net), order_type=OrderType.MARKET),
                tag=call.request.first("tag"),
                variety="SIMPLE",
            )
            parts += self._cut(ask)
        if len(parts) > self._exchange.settings.upstox_lines_max:
            raise Refused(Problem("UDAPI1112", "There are more positions than can be exited at once"))
        ids = [self._place(part).order_id for part in parts]
        return summed_up({"order_ids": ids}, [], {"total": len(ids), "success": len(ids), "error": 0})

    def calls_of_multi(self, request: Request) -> int:
        """A multi-place counts by its lines against the rate limit, where the settings say so."""
        if not self._exchange.settings.multi_counts_lines:
            return 1
        try:
            lines = body_of(request)
        except Refused:
            return 1
        return max(1, len(lines)) if isinstance(lines, list) else 1

    def _execute(self, asks: list[tuple[str, Ask]], plan: Plan) -> Answer:
        spoilt = plan.get(Kind.REFUSE_LINES)
        placed: list[dict[str, Any]] = []
        errors: list[dict[str, Any]] = []
        numbered = list(enumerate(asks))
        for number, (name, ask) in sorted(numbered, key=lambda n: n[1][1].side is Side.SELL):
            if spoilt is not None and (spoilt.lines is None or number in spoilt.lines):
                words_of_it = spoilt.message or "The order could not be placed"
                errors.append(Problem(spoilt.code or "UDAPI100500", words_of_it).row(correlation_id=name))
            else:
                placed.append({"correlation_id": name, "order_id": self._place(ask).order_id})
        summary = {"total": len(asks), "payload_error": 0, "success": len(placed), "error": len(errors)}
        return summed_up(placed, errors, summary)

    def _place(self, ask: Ask) -> SimOrder:
        return self._exchange.place(ask, facade=NAME, id_form=ORDER_ID_FORM)

    def _find(self, call: Call, order_id: str) -> SimOrder:
        order = self._exchange.find(call.owner.user_id, order_id)
        if order is None:
            raise Refused(replace(NO_SUCH_ORDER, value=order_id))
        return order

    def _cut(self, ask: Ask) -> list[Ask]:
        """Slices of at most the freeze quantity, in whole lots."""
        instrument, total = ask.instrument, ask.terms.quantity
        most = max(instrument.freeze_quantity // instrument.lot_size * instrument.lot_size, instrument.lot_size)
        _want_few(-(-total // most), self._exchange.settings.slices_max)
        sizes = [most] * (total // most) + ([total % most] if total % most else [])
        return [replace(ask, terms=replace(ask.terms, quantity=size)) for size in sizes]


def _want_few(count: int, most: int) -> None:
    if count > most:
        raise Refused(Problem("UDAPI1118", f"The number of orders {count}, after slicing, is over {most}"))


def _correlation_problems(lines: list[Any]) -> list[list[Problem]]:
    seen: set[str] = set()
    found: list[list[Problem]] = []
    for line in lines:
        name = line.get("correlation_id") if isinstance(line, dict) else None
        problems = []
        if not name:
            problems.append(Problem("UDAPI1115", "Correlation id is required", "correlation_id"))
        elif not isinstance(name, str) or len(name) > _CORRELATION_MAX:
            problems.append(Problem("UDAPI1116", "Correlation id is longer than 20 characters", "correlation_id", name))
        elif name in seen:
            problems.append(Problem("UDAPI1117", "Correlation id is not unique", "correlation_id", name))
        seen.add(str(name))
        found.append(problems)
    return found
