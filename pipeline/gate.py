"""The last gate: whether an order may be sent at this moment, asked inside the transaction that writes its attempt."""

from __future__ import annotations

from datetime import datetime, timedelta

from domain.accounts import Account
from domain.instruments import Instrument
from domain.market import phase_for
from domain.orders import Order
from domain.verdicts import Proceed, Reject, Verdict, Wait

WAIT_FOR_SESSION = timedelta(seconds=1)


def last_gate(order: Order, account: Account, instrument: Instrument, *, key_revoked: bool, at: datetime) -> Verdict:
    """Proceed, or why not: the order is over with `CANCELLED_UNSENT` or another code, or waits for its broker session."""
    if order.cancel_requested:
        return Reject("CANCELLED_UNSENT", ("cancelled before it was sent",))
    if at >= order.send_before:
        return Reject("EXPIRED_UNSENT", (f"not sent by {order.send_before.isoformat(timespec='seconds')}, its limit",))
    if key_revoked:
        return Reject("KEY_REVOKED", ("the API key it came with was revoked",))
    if not phase_for(instrument, account.calendar, at).takes_orders:
        return Reject("EXPIRED_UNSENT", (f"the session of {instrument.exchange} ended before it was sent",))
    if account.mode == "HALTED":
        return Reject("HALTED", (f"account {account.id} is halted",))
    if account.session != "ALIVE":
        return Wait(at + WAIT_FOR_SESSION, f"the session of {account.id} is dead")
    return Proceed()
