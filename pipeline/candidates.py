"""Candidates: which accounts an order may go to, in the order in which they are preferred. Pure.

Explicit account or broker → the user's default → the strategy's broker → the administrator's fallback brokers. A user's default
is the broker that the user has chosen (`defaultBroker`), else the account that was set up as its default (`is_default`); of
several accounts at one broker that account comes first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from domain.accounts import Account
from domain.capabilities import Capabilities
from domain.instruments import Instrument
from domain.orders import Order
from domain.settings import Settings


def candidates(
    order: Order,
    accounts: Sequence[Account],
    capabilities: Mapping[str, Capabilities],
    instrument: Instrument | None,
    settings: Settings,
    default_broker: str | None = None,
) -> tuple[Account, ...]:
    """The user's accounts for an order: named ones first and only, else default, strategy's and fallback brokers.

    Narrowed to brokers that can take it; where none can, the preferred accounts are given all the same, so that
    validate may say what it is they can't do.
    """
    wanted = tuple(_preferred(order, accounts, settings, default_broker))
    able = tuple(account for account in wanted if _can_take(order, capabilities.get(account.broker), instrument))
    return able or wanted


def is_default(account: Account, default_broker: str | None) -> bool:
    """Whether it is its user's default, the user having chosen that broker or none."""
    return account.is_default if default_broker is None else account.broker == default_broker


def _preferred(
    order: Order, accounts: Sequence[Account], settings: Settings, default_broker: str | None
) -> Iterator[Account]:
    if order.wanted_account is not None:
        for account in accounts:
            if account.id == order.wanted_account and order.wanted_broker in (None, account.broker):
                yield account
        return
    if order.wanted_broker is not None:
        yield from (account for account in accounts if account.broker == order.wanted_broker)
        return
    given: set[str] = set()
    strategy_broker = settings.strategy_brokers.get(order.strategy or "")
    ranks = (
        [account for account in accounts if is_default(account, default_broker)],
        [account for account in accounts if account.broker == strategy_broker],
        [account for broker in settings.fallback_brokers for account in accounts if account.broker == broker],
    )
    for rank in ranks:
        for account in rank:
            if account.id not in given:
                given.add(account.id)
                yield account


def _can_take(order: Order, able: Capabilities | None, instrument: Instrument | None) -> bool:
    return (
        able is not None
        and order.product in able.products
        and order.order_type in able.order_types
        and order.validity in able.validities
        and (instrument is None or instrument.exchange in able.exchanges)
    )
