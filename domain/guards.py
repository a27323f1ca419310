"""The guard of a signal: what makes two deliveries of one strategy the same, so that they become one order."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class SignalStatus(StrEnum):
    ACCEPTED = "ACCEPTED"  # it became an intent
    SUPPRESSED = "SUPPRESSED"  # the same order was asked for within the window, and without a nonce
    REPLAYED = "REPLAYED"  # its nonce came before
    REFUSED = "REFUSED"


@dataclass(frozen=True, slots=True)
class Guard:
    """One delivery. Its digest is of the order that it asks for; a nonce says that a repeat is meant."""

    signal_id: str
    strategy_id: str
    digest: bytes
    nonce: str | None
