"""Choices: of a user's accounts, where an order may go, in which order, and why not elsewhere. In words, for a preview."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from domain.accounts import Account
from domain.capabilities import Capabilities
from domain.instruments import Instrument
from domain.orders import Order
from domain.settings import Settings
from pipeline.stages.validate import broker_breaches


@dataclass(frozen=True, slots=True)
class Choice:
    """One account. `place` counts the candidates from 1; None where it is none of them."""

    account: Account
    place: int | None
    why: str

    @property
    def is_chosen(self) -> bool:
        return self.place == 1


def explain(
    order: Order,
    candidates: Sequence[Account],
    owned: Sequence[Account],
    capabilities: Mapping[str, Capabilities],
    instrument: Instrument | None,
    settings: Settings,
) -> list[Choice]:
    """Every account of the user's: the candidates in their order, then the others."""
    told = [Choice(account, place, _why_there(place, settings)) for place, account in enumerate(candidates, 1)]
    places = {account.id for account in candidates}
    others = (account for account in owned if account.id not in places)
    return told + [
        Choice(account, None, _why_not(order, account, capabilities.get(account.broker), instrument))
        for account in others
    ]


def _why_there(place: int, settings: Settings) -> str:
    if place == 1:
        return "the first of the candidates"
    if settings.broker_failover_enabled:
        return "asked where the one before provably hasn't taken the order"
    return "not asked: failover is off"


def _why_not(order: Order, account: Account, able: Capabilities | None, instrument: Instrument | None) -> str:
    if order.wanted_account is not None:
        return f"account {order.wanted_account} was named"
    if order.wanted_broker not in (None, account.broker):
        return f"{order.wanted_broker} was named"
    if able is None:
        return f"{account.broker} can't be reached from here: it has no adapter"
    if instrument is not None and (missing := list(_missing(order, instrument, able))):
        return "; ".join(missing)
    return "neither your default, nor the strategy's broker, nor a fallback"


def _missing(order: Order, instrument: Instrument, able: Capabilities) -> Iterator[str]:
    return (breach.reason for breach in broker_breaches(order, instrument, able))
