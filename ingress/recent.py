"""Recent answers: a read may be answered as it was a moment ago, where the administrator's read policy and its user allow it.

`readPolicy` says how old an answer of which read may be; a user whose `readConsistency` is STRONG hears from the database.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from domain.settings import Read, Settings, UserSettings
from ingress.wire import Reply

KEPT_MAX = 2_000
READS: Mapping[str, Read] = {
    "list_brokers": "brokers",
    "show_history": "history",
    "list_intents": "intents",
    "show_order": "order",
    "list_orders": "orders",
    "list_trades": "trades",
}
_STRONG = "STRONG"
Key = tuple[str | None, str]  # whose rows it shows, None for everyone's; and the request's path with its query


@dataclass(slots=True)
class Recent:
    """The newest answers of one process, and what its users have chosen."""

    users: Mapping[str, UserSettings] = field(default_factory=dict)
    _kept: dict[Key, tuple[float, Reply]] = field(default_factory=dict)

    def age_max_s(self, operation: str, user_id: str, settings: Settings) -> float:
        """How many seconds old an answer may be; 0: it is asked anew."""
        age = settings.read_policy.get(READS[operation], 0.0) if operation in READS else 0.0
        chosen = self.users.get(user_id)
        return 0.0 if chosen is not None and chosen.read_consistency == _STRONG else age

    def find(self, key: Key, age_max_s: float) -> Reply | None:
        """An answer that is no older, with its `Age`."""
        kept = self._kept.get(key)
        if kept is None:
            return None
        age_s = time.monotonic() - kept[0]
        if age_s > age_max_s:
            return None
        reply = kept[1]
        return Reply(reply.status, reply.body, {**(reply.headers or {}), "Age": str(int(age_s))}, reply.content_type)

    def keep(self, key: Key, asked_at: float, reply: Reply) -> None:
        """What was found by a read that began at that time on the monotonic clock."""
        if reply.status != 200:
            return
        if len(self._kept) >= KEPT_MAX:
            self._kept.clear()
        self._kept[key] = asked_at, reply
