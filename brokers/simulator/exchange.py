"""The exchange: takes orders, trades them on its floor, and remembers them.

One thread uses it. Time goes on only in `advance`, so the same seed and the same calls at the same times give the
same trades.
"""

from __future__ import annotations

from datetime import datetime, time, timedelta
from decimal import Decimal
from functools import partial

from brokers.simulator import rules
from brokers.simulator.accounts import Account, Accounts
from brokers.simulator.book import AFTER_MARKET, WORKING, Ask, SimOrder, Status, Terms
from brokers.simulator.books import Books
from brokers.simulator.clock import IST, ist_date
from brokers.simulator.floor import Floor
from brokers.simulator.journal import Journal
from brokers.simulator.listing import Listing
from brokers.simulator.prices import Prices, draw
from brokers.simulator.settings import Settings
from brokers.simulator.timeline import Timeline
from domain.instruments import Instrument


class AlreadyFinal(Exception):
    """The order is complete, cancelled or rejected: nothing can be asked of it any more."""


class BeingProcessed(Exception):
    """The order is between two states; ask again."""


class Exchange:
    def __init__(
        self,
        *,
        seed: str,
        settings: Settings,
        listing: Listing,
        now: datetime,
        journal: Journal | None = None,
        first_number: int = 0,
    ) -> None:
        """`first_number` is added to the numbers in ids, so that two runs on one day don't give the same ones."""
        self.seed, self.settings, self.listing = seed, settings, listing
        self.accounts, self.books = Accounts(), Books()
        self.prices = Prices(seed, tick_ms=settings.tick_ms)
        self.journal = journal or Journal(None)
        self.timeline = Timeline(now)
        self.floor = Floor(
            seed, settings, listing, self.prices, self.timeline, self.accounts, self.journal, first_number
        )
        self.is_open = True
        self.sequence = 0
        self.first_number = first_number
        self._reset_at: datetime | None = None
        self.await_reset()

    @property
    def now(self) -> datetime:
        return self.timeline.now

    def advance(self, to: datetime) -> None:
        self.timeline.advance(to)
        self.journal.flush()

    # What a broker asks of it

    def place(self, ask: Ask, *, facade: str, id_form: str) -> SimOrder:
        """Take an order; what becomes of it shows in its rows.

        `id_form` is the broker's way to write an order id, of `day` and `number`. A refusal is known at once (in
        `order.refusal`), so that funds can't be promised twice, but shows as "rejected" only later.
        """
        self.sequence += 1
        hidden = timedelta(milliseconds=self.settings.visibility_delay_ms, seconds=ask.hidden_s)
        order = SimOrder(
            sequence=self.sequence,
            order_id=id_form.format(day=ist_date(self.now), number=self.first_number + self.sequence),
            facade=facade,
            ask=ask,
            accepted_at=self.now,
            visible_at=self.now + hidden,
            day=self.books.day,
            terms=ask.terms,
            extra_tags=ask.extra_tags,
        )
        refusal = self._find_refusal(order)
        if refusal is not None:
            order.refusal, order.refusal_code = refusal.message, refusal.code
        self.books.enter(order)
        self.journal.placed(order)
        if hidden:
            self.timeline.at(order.visible_at, partial(self.floor.publish, order))
        if self.is_open:
            self.floor.receive(order)
        else:
            self.floor.change(order, Status.AMO_RECEIVED)
        return order

    def reject_now(self, order: SimOrder) -> None:
        """End an order that `place` found a refusal for, without waiting for its walk."""
        if not order.is_final:
            self.floor.change(order, Status.REJECTED, order.refusal)

    def modify(self, order: SimOrder, terms: Terms, *, forced_refusal: str | None = None) -> None:
        """
        Raises:
            AlreadyFinal
            BeingProcessed: it is on its way to the exchange, or a change of it is.
        """
        _want_open(order)
        if order.status in AFTER_MARKET:
            order.terms = terms
            order.modifications += 1
            self.floor.change(order, Status.AMO_MODIFY_RECEIVED)
            return
        if order.status not in WORKING:
            raise BeingProcessed
        order.modifications += 1
        order.wanted = terms
        self.floor.modify(order, forced_refusal)

    def cancel(self, order: SimOrder, *, forced_refusal: str | None = None) -> None:
        """
        Raises:
            AlreadyFinal
        """
        _want_open(order)
        if order.status in AFTER_MARKET:
            self.floor.change(order, Status.AMO_CANCELLED)
            return
        order.cancel_wanted = True
        self.journal.write("cancel", order_id=order.order_id)
        if order.status in WORKING:
            self.floor.change(order, Status.CANCEL_PENDING)
        self.floor.cancel(order, forced_refusal)

    def book(self, account: str) -> list[SimOrder]:
        """The account's orders of the day, as far as its broker shows them by now."""
        return self.books.of(account, self.now)

    def find(self, account: str, order_id: str) -> SimOrder | None:
        return self.books.find(account, order_id, self.now)

    def tagged(self, account: str, tag: str) -> list[SimOrder]:
        return self.books.tagged(account, tag, self.now)

    def last(self, instrument: Instrument) -> Decimal:
        return self.floor.last(instrument)

    # What the control asks of it

    def use(self, settings: Settings) -> None:
        self.settings = self.floor.settings = settings
        self.prices.tick_ms = settings.tick_ms
        self.journal.write("settings", settings=settings.model_dump(mode="json"))
        self.await_reset()

    def add_account(self, account: Account) -> None:
        self.accounts.add(account)
        self.journal.account(account)

    def pin(self, instrument: Instrument, price: Decimal | None) -> None:
        """Hold the price where it is put, or let it walk again; orders that it crosses trade at once."""
        if price is None:
            self.prices.pins.pop(instrument.key, None)
        else:
            self.prices.pins[instrument.key] = price
        self.journal.write("pin", instrument=instrument.key, price=price)
        self.floor.look_at(instrument.key)

    def force_fill(self, order: SimOrder, quantity: int, price: Decimal) -> None:
        """
        Raises:
            AlreadyFinal
            BeingProcessed: the exchange doesn't have the order yet.
        """
        _want_open(order)
        if not order.arrived:
            raise BeingProcessed
        order.triggered = True
        self.floor.fill(order, min(quantity, order.pending), price)

    def close(self) -> None:
        """End the session: what rests is cancelled, what comes now waits for the next one."""
        if self.is_open:
            self.is_open = False
            self.journal.write("session", is_open=False)
            self._cancel_live("cancelled by the exchange at the close")

    def open(self) -> None:
        if not self.is_open:
            self.is_open = True
            self.journal.write("session", is_open=True)
            for order in self.books.live():
                self.floor.receive(order)

    def reset_day(self) -> None:
        """Empty the day's books: what is live is cancelled, positions are carried, delivered or closed."""
        self._cancel_live("cancelled by the exchange at the day's end")
        self.end_day()
        self.journal.write("day")

    def end_day(self) -> None:
        self.books.turn()
        self.floor.clear()
        for account in self.accounts:
            account.end_day({name: self.last(self.listing[name]) for name, _ in account.positions})
        self.listing.renew(ist_date(self.now))

    # Small print

    def _find_refusal(self, order: SimOrder) -> rules.Refusal | None:
        ask = order.ask
        if ask.forced_refusal is not None:
            return rules.Refusal("FORCED", ask.forced_refusal)
        found = rules.find_refusal(ask, self.accounts[ask.account], self.floor.market(ask.instrument), self.settings)
        if found is None and draw(100, self.seed, order.sequence, "reject") < self.settings.reject_percent:
            return rules.Refusal("EXCHANGE", "16000 : The exchange rejected the order")
        return found

    def _cancel_live(self, why: str) -> None:
        """Orders that wait for the next session are spared."""
        for order in self.books.live():
            if order.refusal is not None:
                self.floor.change(order, Status.REJECTED, order.refusal)
            elif order.status not in AFTER_MARKET:
                self.floor.change(order, Status.CANCELLED, why)

    def await_reset(self) -> None:
        """Schedule the next emptying of the day's books; an earlier schedule that no longer holds does nothing."""
        wanted = self.settings.day_reset_ist
        self._reset_at = None if wanted is None else next_reset(self.now, wanted)
        if self._reset_at is not None:
            self.timeline.at(self._reset_at, partial(self._reset_when_due, self._reset_at))

    def _reset_when_due(self, scheduled: datetime) -> None:
        if scheduled == self._reset_at:
            self.reset_day()
            self.await_reset()


def _want_open(order: SimOrder) -> None:
    if order.is_final:
        raise AlreadyFinal


def next_reset(now: datetime, at_ist: str) -> datetime:
    """The next moment, strictly after `now`, at which it is so late in India."""
    today = now.astimezone(IST)
    moment = datetime.combine(today.date(), time.fromisoformat(at_ist), IST)
    return moment if moment > today else moment + timedelta(days=1)
