"""Accounts: who may call, the money they have, and what they hold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal

from brokers.simulator.book import SimOrder
from domain.instruments import Instrument
from domain.money import ZERO, Money, value_of
from domain.orders import Product, Side

OPENING_CASH = Money(100_000_000_000)  # ₹100 crore: a sandbox account isn't meant to run dry

# Percent of the value that is blocked; an honest simplification of the exchanges' margins.
_INTRADAY_PERCENT, _FUNDED_PERCENT, _DERIVATIVE_PERCENT = 20, 25, 15


@dataclass(slots=True)
class Position:
    """What an account traded today in one instrument and product, on top of what it carried over."""

    instrument: Instrument
    product: Product
    carried: int = 0  # signed, at carried_price
    carried_price: Decimal = Decimal(0)
    bought: int = 0
    bought_value: Money = ZERO
    sold: int = 0
    sold_value: Money = ZERO

    @property
    def net(self) -> int:
        return self.carried + self.bought - self.sold

    def add(self, side: Side, quantity: int, price: Decimal) -> None:
        value = value_of(price, quantity, self.instrument.multiplier)
        if side is Side.BUY:
            self.bought, self.bought_value = self.bought + quantity, self.bought_value + value
        else:
            self.sold, self.sold_value = self.sold + quantity, self.sold_value + value

    def profit(self, last: Decimal) -> Money:
        """Realised and unrealised together, since the carried price."""
        multiplier = self.instrument.multiplier
        carried = value_of(self.carried_price, self.carried, multiplier)
        return self.sold_value - self.bought_value - carried + value_of(last, self.net, multiplier)


@dataclass(slots=True, kw_only=True)
class Account:
    """One user at one broker. Its token stays good until it is told to die."""

    name: str  # "SIM-UPSTOX-1"
    facade: str
    user_id: str
    api_key: str
    api_secret: str = field(repr=False)
    access_token: str = field(repr=False)
    token_alive: bool = True
    postback_url: str | None = None
    cash: Money = OPENING_CASH
    holdings: dict[str, int] = field(default_factory=dict)  # by instrument key
    positions: dict[tuple[str, Product], Position] = field(default_factory=dict)
    blocked: dict[str, Money] = field(default_factory=dict)  # by order id: what open orders hold
    blocked_total: Money = ZERO
    used_total: Money = ZERO  # by positions
    _used: dict[tuple[str, Product], Money] = field(default_factory=dict)
    _promised: dict[str, tuple[str, int]] = field(default_factory=dict)  # by order id: shares its sell would deliver

    @property
    def available(self) -> Money:
        return self.cash - self.blocked_total - self.used_total

    def block(self, order: SimOrder, last: Decimal) -> None:
        """Hold what the order's pending quantity needs; nothing once it is over."""
        needed = ZERO
        if not order.is_final and not self.reduces(order):
            price = order.terms.limit or last
            needed = margin_of(order.instrument, order.ask.product, order.ask.side, order.pending, price)
        held = self.blocked.pop(order.order_id, ZERO)
        if needed:
            self.blocked[order.order_id] = needed
        self.blocked_total = self.blocked_total - held + needed
        if not order.is_buy and order.ask.product in _DELIVERED:
            self._promised.pop(order.order_id, None)
            if not order.is_final:
                self._promised[order.order_id] = (order.instrument.key, order.pending)

    def reduces(self, order: SimOrder) -> bool:
        """Whether the order only makes a position smaller."""
        position = self.positions.get((order.instrument.key, order.ask.product))
        if position is None:
            return False
        signed = order.pending if order.is_buy else -order.pending
        return position.net * signed < 0 and abs(signed) <= abs(position.net)

    def fill(self, order: SimOrder, quantity: int, price: Decimal) -> None:
        key = (order.instrument.key, order.ask.product)
        position = self.positions.setdefault(key, Position(order.instrument, order.ask.product))
        position.add(order.ask.side, quantity, price)
        side = Side.BUY if position.net > 0 else Side.SELL
        used = margin_of(order.instrument, order.ask.product, side, abs(position.net), price)
        self.used_total = self.used_total - self._used.pop(key, ZERO) + used
        if used:
            self._used[key] = used

    def deliverable(self, key: str) -> int:
        """Shares that may still be sold for delivery: held or bought today, and not promised to an open order."""
        bought = sum(self.positions[key, p].net for p in _DELIVERED if (key, p) in self.positions)
        promised = sum(quantity for name, quantity in self._promised.values() if name == key)
        return self.holdings.get(key, 0) + bought - promised

    def end_day(self, last: dict[str, Decimal]) -> None:
        """Delivery positions become holdings, intraday ones are closed at the last price, the rest is carried."""
        for key, position in list(self.positions.items()):
            name, product = key
            price = last[name]
            if product in _DELIVERED and not position.instrument.is_derivative:
                self.holdings[name] = self.holdings.get(name, 0) + position.net
                self.cash = self.cash + position.sold_value - position.bought_value
            elif product is Product.MIS or position.net == 0:
                self.cash = self.cash + position.profit(price)
            else:
                self.cash = self.cash + position.profit(price)
                self.positions[key] = Position(position.instrument, product, position.net, price)
                continue
            del self.positions[key]
            self.used_total = self.used_total - self._used.pop(key, ZERO)
        self.blocked.clear()
        self._promised.clear()
        self.blocked_total = ZERO


_DELIVERED = frozenset({Product.CNC, Product.MTF})


def margin_of(instrument: Instrument, product: Product, side: Side, quantity: int, price: Decimal) -> Money:
    """What a trade of so much takes of the funds."""
    if quantity <= 0:
        return ZERO
    value = value_of(price, quantity, instrument.multiplier)
    if instrument.is_option:
        if side is Side.BUY:
            return value
        return _percent(value_of(instrument.strike or price, quantity, instrument.multiplier), _DERIVATIVE_PERCENT)
    if instrument.is_derivative:
        return _percent(value, _DERIVATIVE_PERCENT)
    if product is Product.MIS:
        return _percent(value, _INTRADAY_PERCENT)
    if side is Side.SELL:
        return ZERO
    return _percent(value, _FUNDED_PERCENT) if product is Product.MTF else value


def _percent(amount: Money, percent: int) -> Money:
    return Money(amount.paise * percent // 100)


class Accounts:
    """Every account, found by user id, token or API key."""

    def __init__(self) -> None:
        self._by_user: dict[str, Account] = {}
        self._by_token: dict[tuple[str, str], Account] = {}
        self._by_key: dict[tuple[str, str], Account] = {}

    def add(self, account: Account) -> None:
        """
        Raises:
            ValueError: its user id, or its token or key at the same broker, is another account's.
        """
        token, key = (account.facade, account.access_token), (account.facade, account.api_key)
        if account.user_id in self._by_user or token in self._by_token or key in self._by_key:
            raise ValueError(f"there is an account with the user id, token or key of {account.user_id} already")
        self._by_user[account.user_id] = self._by_token[token] = self._by_key[key] = account

    def __getitem__(self, user_id: str) -> Account:
        return self._by_user[user_id]

    def __iter__(self) -> Iterator[Account]:
        return iter(self._by_user.values())

    def get(self, user_id: str) -> Account | None:
        return self._by_user.get(user_id)

    def by_token(self, facade: str, token: str) -> Account | None:
        return self._by_token.get((facade, token))

    def by_key(self, facade: str, api_key: str) -> Account | None:
        return self._by_key.get((facade, api_key))
