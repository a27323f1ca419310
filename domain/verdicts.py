"""What a stage says of one order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class Proceed:
    """The order goes on. `facts` are the numbers it was judged by, kept in its history."""

    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reject:
    """The order ends here: a stable code, and for each rule that was passed a sentence with its number and limit."""

    code: str
    reasons: tuple[str, ...]

    @property
    def text(self) -> str:
        return "; ".join(self.reasons)


@dataclass(frozen=True, slots=True)
class Wait:
    """Not yet: the stage looks at the order again at `until` (UTC)."""

    until: datetime
    why: str


Verdict = Proceed | Reject | Wait
