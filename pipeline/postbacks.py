"""Postbacks: what a broker calls in is a hint. It makes us look into the book ourselves, and changes nothing."""

from __future__ import annotations

from domain.errors import Fault, Malformed, NotFound
from pipeline.chain import reports_stage
from pipeline.desk import Desk


def hear(desk: Desk, broker: str, headers: dict[str, str], body: bytes) -> bool:
    """Look into the broker's books soon, if the hint may be genuine; whether it may.

    Where the broker signs what it sends, only a rightly signed hint is followed: anyone can post, and each look spends
    some of the read budget. Raises NotFound for a broker that isn't there, Malformed for what is no postback.
    """
    adapter = desk.adapters.get(broker)
    if adapter is None:
        raise NotFound("broker", broker[:32])
    accounts = [account for account in desk.directory().by_id.values() if account.broker == broker]
    hints = [adapter.hint(desk.session(account.id), headers, body) for account in accounts]
    if not any(hint is not None for hint in hints):
        raise Malformed((Fault("", "NO_POSTBACK", f"this is no postback of {broker}"),))
    if adapter.capabilities.signs_postbacks and not any(hint is not None and hint.verified for hint in hints):
        return False
    desk.wakeups.wake(reports_stage(broker))
    return True
