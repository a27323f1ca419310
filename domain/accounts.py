"""Accounts: one client's account at one broker, and what of it is taken at this moment."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What seldom changes of an account. `calendar` is SIM (always open) or the exchanges' own."""

    id: str
    user_id: str
    broker: str
    calendar: str
    is_default: bool
    session: str  # ALIVE or DEAD


@dataclass(slots=True, kw_only=True)
class Totals:
    """What the account's live orders take, as read under the account row's lock. Money in paise."""

    account_id: str
    limit_paise: int
    blocked_paise: int
    exposure_paise: int
    open_orders: int
    second: int  # the epoch second that `orders_this_second` counts
    orders_this_second: int
