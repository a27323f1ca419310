"""Portions: as much of a broker's due work as may be sent at once, within the rate budgets of its accounts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from domain.commands import Command
from store import attempts, commands, orders
from store.unit import Unit

if TYPE_CHECKING:
    from brokers.limits import Granted, RateBudget

PEEK_MAX = 400

_Key = tuple[str, int]  # order id, seq


@dataclass(frozen=True, slots=True)
class Portion:
    """Claimed commands, the time up to which everything due was seen, and when more may be sent (None: nothing waits)."""

    claimed: list[Command]
    looked_until: datetime
    more_in_s: float | None = None


class Portions:
    """`windows` are the seconds of the broker's rate windows; without a budget everything due may go."""

    def __init__(self, stage: str, windows: Sequence[int], budget: RateBudget | None, *, urgent: bool = False) -> None:
        self._stage, self._windows, self._budget, self._urgent = stage, windows, budget, urgent

    def take(self, unit: Unit, limit: int, *, since: datetime, now: datetime) -> Portion:
        """Claim at most `limit` commands that fell due after `since`, oldest first; their tokens are taken."""
        limit = min(PEEK_MAX, limit)
        if self._budget is None:
            claimed = commands.claim(unit, self._stage, since=since, now=now, limit=limit)
            return Portion(claimed, claimed[-1].due_at if len(claimed) == limit else now)
        granted, looked_until, more_in_s = self._grant(unit, limit, since, now, self._budget)
        keys = [key for _, taken in granted for key in taken]
        claimed = commands.claim_these(unit, self._stage, keys, now) if keys else []
        held = {(command.order_id, command.seq) for command in claimed}
        for grant, taken in granted:
            self._budget.give_back(grant, sum(key not in held for key in taken))
        return Portion(claimed, looked_until, more_in_s)

    def wait_for(self, unit: Unit, command: Command) -> float | None:
        """Take a token for one claimed command; None, or the seconds until there may be one."""
        if self._budget is None:
            return None
        (order,) = orders.lock(unit, [command.order_id]).values()
        grant = self._budget.take(order.account_id or "", 1, urgent=self._urgent)
        return None if grant.count else grant.wait_s

    def _grant(
        self, unit: Unit, limit: int, since: datetime, now: datetime, budget: RateBudget
    ) -> tuple[list[tuple[Granted, list[_Key]]], datetime, float | None]:
        """What is due as far as each account's budget goes, when the oldest of it fell due, and when more may go.

        Accounts whose budget is used up are passed over, however much of theirs waits.
        """
        granted: list[tuple[Granted, list[_Key]]] = []
        oldest, room = now, limit
        soonest: float | None = None
        asked: set[str] = set()
        while room > 0:
            due = commands.peek(unit, self._stage, since=since, now=now, limit=PEEK_MAX, without=asked)
            waiting: dict[str, list[_Key]] = {}
            for order_id, seq, account_id, due_at in due:
                waiting.setdefault(account_id, []).append((order_id, seq))
                oldest = min(oldest, due_at)
            for account_id, keys in waiting.items():
                wanted = min(len(keys), room)
                if wanted <= 0:
                    break
                asked.add(account_id)
                grant = budget.take(account_id, wanted, urgent=self._urgent)
                if grant.forgotten:
                    # Redis knows nothing of this account's day: the record does.
                    budget.remember(account_id, attempts.count_sent(unit, account_id, self._windows, now))
                granted.append((grant, keys[: grant.count]))
                room -= grant.count
                if grant.count < wanted:
                    soonest = grant.wait_s if soonest is None else min(soonest, grant.wait_s)
            if len(due) < PEEK_MAX:
                break
        return granted, oldest, soonest
