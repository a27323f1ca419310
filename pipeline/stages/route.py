"""Route: confirms the candidate that was judged, or waits for its session; says how it was chosen."""

from __future__ import annotations

from datetime import datetime, timedelta

from domain.accounts import Account
from domain.orders import Order
from domain.verdicts import Proceed, Verdict, Wait
from pipeline.candidates import is_default

SESSION_LOOK = timedelta(seconds=1)


def decide(order: Order, account: Account, now: datetime, default_broker: str | None = None) -> Verdict:
    """Proceed to the account's broker, or wait for a new session where the account's is dead."""
    if account.session != "ALIVE":
        return Wait(now + SESSION_LOOK, f"the session of account {account.id} at {account.broker} is over; log in again")
    return Proceed({"broker": account.broker, "account": account.id, "chosen": _chosen_by(order, account, default_broker)})


def _chosen_by(order: Order, account: Account, default_broker: str | None) -> str:
    if order.wanted_account is not None:
        return "the account was named"
    if order.wanted_broker is not None:
        return "the broker was named"
    return "the user's default" if is_default(account, default_broker) else "the strategy's broker or the fallback"
