"""What comes back from the coordinator: documents, and failures by what they prove.

A write that fails tells one of three things, and the difference is money:

- `NotReached`: no byte of it arrived; nothing was stored.
- `Lost`: it may have arrived. The same idempotency key finds out, or does it, safely.
- `Problem`: the coordinator answered, and says why not (RFC 9457).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]

SURELY_REFUSED = frozenset({"OVERLOADED", "RATE_LIMITED"})  # a 5xx that still says: nothing was stored


class NotReached(Exception):
    """Nobody was reached; nothing was sent."""


class Lost(Exception):
    """The request may have arrived, but its answer didn't, or can't be read."""


class Problem(Exception):
    """The coordinator's own refusal, as it told it."""

    def __init__(self, status: int, document: Json, *, retry_after_s: float | None = None) -> None:
        self.status, self.document, self.retry_after_s = status, document, retry_after_s
        self.code = str(document.get("code") or f"HTTP_{status}")
        self.detail = str(document.get("detail") or document.get("title") or "no detail was given")
        super().__init__(f"{self.code}: {self.detail}")

    @property
    def faults(self) -> list[Json]:
        faults = self.document.get("errors")
        return [fault for fault in faults if isinstance(fault, dict)] if isinstance(faults, list) else []

    @property
    def is_busy(self) -> bool:
        """The request is fine; the same one may succeed a moment later."""
        return self.status in (429, 503)

    @property
    def may_be_stored(self) -> bool:
        return self.status >= 500 and self.code not in SURELY_REFUSED


@dataclass(frozen=True, slots=True)
class Placed:
    """An acceptance; `replayed` when this key had made it before."""

    document: Json
    replayed: bool
