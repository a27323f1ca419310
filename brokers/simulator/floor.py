"""The floor: walks each order through its states, trades it, lets it rest, and wakes it when the price comes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from decimal import Decimal
from functools import partial

from brokers.simulator import rules
from brokers.simulator.accounts import Accounts
from brokers.simulator.book import Row, SimOrder, Status, Trade
from brokers.simulator.clock import ist_date
from brokers.simulator.journal import Journal
from brokers.simulator.listing import Listing
from brokers.simulator.matching import crosses, next_quantity, protected_price, runs_dry, trade_price, triggers
from brokers.simulator.prices import Prices
from brokers.simulator.settings import Settings
from brokers.simulator.timeline import Timeline
from domain.instruments import Instrument
from domain.orders import OrderType, Validity

Listener = Callable[[SimOrder, Row], None]

_TICKS_OF_A_JUMP = 300  # a long jump of the clock is walked in at most so many ticks


@dataclass(slots=True)
class Floor:
    seed: str
    settings: Settings
    listing: Listing
    prices: Prices
    timeline: Timeline
    accounts: Accounts
    journal: Journal
    first_number: int = 0
    listeners: list[Listener] = field(default_factory=list)
    trade_count: int = 0
    _resting: dict[str, dict[int, SimOrder]] = field(default_factory=dict)
    _ticking: bool = False

    def last(self, instrument: Instrument) -> Decimal:
        return self.prices.last(instrument, self.timeline.now)

    def market(self, instrument: Instrument) -> rules.Market:
        low, high = self.prices.band(instrument)
        return rules.Market(today=ist_date(self.timeline.now), last=self.last(instrument), low=low, high=high)

    # The walk of a new order

    def receive(self, order: SimOrder) -> None:
        """From "put order req received" to the exchange, or to its rejection."""
        step = self.settings.step_delay_ms
        self.change(order, Status.RECEIVED)
        self.timeline.later(step, partial(self._pass_on, order, Status.VALIDATION))
        self.timeline.later(2 * step, partial(self._pass_on, order, Status.OPEN_PENDING))
        self.timeline.later(3 * step, partial(self._arrive, order))

    def _pass_on(self, order: SimOrder, status: Status) -> None:
        if not order.is_final:
            self.change(order, status)

    def _arrive(self, order: SimOrder) -> None:
        if order.is_final:
            return
        if order.refusal is not None:
            self.change(order, Status.REJECTED, order.refusal)
            return
        order.exchange_order_id = exchange_order_id(order)
        order.arrived = True
        if order.terms.order_type is OrderType.MARKET and self.settings.market_as_limit:
            self._protect(order)
        self.change(order, order.rests_as)
        self.seek_trade(order)

    def _protect(self, order: SimOrder) -> None:
        """Store a market order as a limit order at its protection price, and say so in its tags."""
        instrument, percent = order.instrument, order.terms.protection
        price = protected_price(
            instrument,
            buys=order.is_buy,
            last=self.last(instrument),
            protection=percent,
            band=self.prices.band(instrument),
        )
        order.terms = replace(order.terms, order_type=OrderType.LIMIT, price=price)
        order.extra_tags += ("mktp",) if percent is None or percent < 0 else ("mktp", f"mktp:{percent:.2f}")

    # Trades

    def seek_trade(self, order: SimOrder) -> None:
        """Let an order that has arrived wait for its trigger, or try to trade after the usual delay."""
        if order.waits_for_trigger:
            self._rest(order)
        else:
            self.timeline.later(self.settings.fill_delay_ms, partial(self._trade, order))

    def _trade(self, order: SimOrder) -> None:
        if order.is_final:
            return
        last = self.last(order.instrument)
        if not crosses(order, last):
            self._rest(order)
            return
        quantity = next_quantity(order, self.settings, self.seed)
        self.fill(order, quantity, trade_price(order, last, self.prices.band(order.instrument)))
        if order.is_final:
            return
        if runs_dry(order, self.settings, self.seed):
            self._rest(order)
        else:
            self.timeline.later(self.settings.trade_gap_ms, partial(self._trade, order))

    def fill(self, order: SimOrder, quantity: int, price: Decimal) -> None:
        self.trade_count += 1
        trade = Trade(f"{self.first_number + self.trade_count}", quantity, price, self.timeline.now)
        order.add(trade)
        self.accounts[order.account].fill(order, quantity, price)
        self.journal.traded(order, trade)
        self.change(order, Status.COMPLETE if order.pending == 0 else order.status, order.message)

    # Rest and waking

    def _rest(self, order: SimOrder) -> None:
        if order.terms.validity is Validity.IOC and not order.waits_for_trigger:
            self.change(order, Status.CANCELLED, "the unmatched rest of an IOC order is cancelled")
            return
        self._resting.setdefault(order.instrument.key, {})[order.sequence] = order
        if not self._ticking:
            self._ticking = True
            self.timeline.later(self.settings.tick_ms, self._tick)

    def _tick(self) -> None:
        for key in list(self._resting):
            self.look_at(key)
        self._ticking = bool(self._resting)
        if self._ticking:
            now, stride = self.timeline.now, timedelta(milliseconds=self.settings.tick_ms)
            self.timeline.at(now + max(stride, (self.timeline.target - now) / _TICKS_OF_A_JUMP), self._tick)

    def look_at(self, key: str) -> None:
        """Wake the resting orders of one instrument that its price now triggers or crosses."""
        resting = self._resting.get(key, {})
        for order in list(resting.values()):
            last = self.last(order.instrument)
            if order.is_final:
                del resting[order.sequence]
                continue
            if order.waits_for_trigger and triggers(order, last):
                order.triggered = True
                self.change(order, Status.OPEN if order.status is Status.TRIGGER_PENDING else order.status)
            if crosses(order, last):
                del resting[order.sequence]
                self.timeline.later(0, partial(self._trade, order))
        if not resting:
            self._resting.pop(key, None)

    # Changes under way

    def modify(self, order: SimOrder, forced_refusal: str | None) -> None:
        step = self.settings.step_delay_ms
        self.change(order, Status.MODIFY_VALIDATION)
        self.timeline.later(step, partial(self._pass_on, order, Status.MODIFY_PENDING))
        self.timeline.later(2 * step, partial(self._modified, order, forced_refusal))

    def _modified(self, order: SimOrder, forced_refusal: str | None) -> None:
        wanted, order.wanted = order.wanted, None
        if order.is_final or wanted is None:
            return
        fault = next(rules.find_faults(order.ask, wanted, self.market(order.instrument)), None)
        message = forced_refusal or (fault.message if fault else None)
        if message is None and wanted.quantity <= order.filled:
            message = f"The new quantity {wanted.quantity} is not above the {order.filled} that are filled"
        if message is None:
            order.terms = wanted
        self.change(order, Status.NOT_MODIFIED if message else Status.MODIFIED, message)
        self.change(order, order.rests_as, message)
        resting = self._resting.get(order.instrument.key, {})
        if not order.waits_for_trigger and resting.pop(order.sequence, None) is not None:
            self.seek_trade(order)

    def cancel(self, order: SimOrder, forced_refusal: str | None) -> None:
        self.timeline.later(self.settings.cancel_delay_ms, partial(self._cancelled, order, forced_refusal))

    def _cancelled(self, order: SimOrder, forced_refusal: str | None) -> None:
        if order.is_final:
            return
        if not order.arrived:
            self.timeline.later(max(1, self.settings.step_delay_ms), partial(self._cancelled, order, forced_refusal))
        elif forced_refusal is not None:
            order.cancel_wanted = False
            self.change(order, Status.NOT_CANCELLED, forced_refusal)
            self.change(order, order.rests_as, forced_refusal)
        else:
            self.change(order, Status.CANCELLED)

    # Every state an order takes passes here

    def change(self, order: SimOrder, status: Status, message: str | None = None) -> None:
        order.status, order.message = status, message
        row = Row(self.timeline.now, status, message, order.terms, order.filled, order.average)
        order.rows.append(row)
        if order.refusal is None:
            self.accounts[order.account].block(order, self.last(order.instrument))
        self.journal.changed(order, row)
        self.publish(order)

    def publish(self, order: SimOrder) -> None:
        """Tell the order's latest state to whoever listens, unless its broker doesn't show it yet."""
        if order.visible_at <= self.timeline.now:
            for listener in self.listeners:
                listener(order, order.rows[-1])

    def clear(self) -> None:
        self._resting.clear()


def exchange_order_id(order: SimOrder) -> str:
    return f"13{order.sequence:014d}"
