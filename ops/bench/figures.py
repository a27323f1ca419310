"""What the record says of a run: how many orders were finished when, and how long each part of their way took.

Both chains write the same three moments of an order, by the same clock: accepted, the broker called, finished. An order
counts as finished only when the broker has taken it: a chain that refuses everything is no fast chain.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg import Connection
from psycopg.rows import TupleRow

from ops.bench.percentiles import RANKS

# Ids are of version 7: those made since a moment are a range of the primary key.
OURS = """
select o.id, o.accepted_at, a.started_at as called_at, case when o.state in ('SUBMITTED', 'FILLED') then c.done_at end as finished_at, o.state
from orders o
join commands c on c.order_id = o.id and c.kind = 'PLACE'
left join attempts a on a.order_id = o.id and a.number = 1
where o.id >= first_id_at(%(since)s::timestamptz)
"""
PLAIN = """
select o.id, o.accepted_at, a.started_at as called_at, o.finished_at, o.state
from plain.orders o
left join plain.attempts a on a.order_id = o.id
where o.accepted_at >= %(since)s::timestamptz
"""
FINISHED = "select count(*) from ({run}) run where finished_at >= %(begin)s and finished_at < %(end)s"
UNFINISHED = "select count(*), count(*) filter (where finished_at is null) from ({run}) run"
LAST = "select coalesce(extract(epoch from max(finished_at) - %(end)s), 0) from ({run}) run"
STATES = "select state, count(*) from ({run}) run group by state order by state"
SPREAD = """
select count(*), percentile_disc(%(ranks)s::float8[]) within group (order by ms)
from (select extract(epoch from {until} - accepted_at) * 1000 as ms
      from ({run}) run where accepted_at >= %(begin)s and accepted_at < %(end)s and {until} is not null) as spread
"""


@dataclass(frozen=True)
class Window:
    """The steady part of a run: warm already, still under load."""

    begin: datetime
    end: datetime

    @property
    def seconds(self) -> float:
        return (self.end - self.begin).total_seconds()


class Figures:
    """One run's figures: `run` is OURS or PLAIN, `since` a moment before its first order."""

    def __init__(self, connection: Connection[TupleRow], run: str, since: datetime) -> None:
        self._connection, self._run, self._since = connection, run, since

    def orders_per_s(self, window: Window) -> float:
        """Orders finished in the window, whenever they were accepted, per second of it."""
        return float(round(self._one(FINISHED, begin=window.begin, end=window.end)[0] / window.seconds, 1))

    def unfinished(self) -> tuple[int, int]:
        """How many orders the run has, and how many of them are not finished."""
        total, unfinished = self._one(UNFINISHED)
        return total, unfinished

    def last_finished_after(self, moment: datetime) -> float:
        """Seconds from a moment until the run's last order was finished; 0 when that was before."""
        return max(0.0, float(self._one(LAST, end=moment)[0]))

    def states(self) -> dict[str, int]:
        return dict(
            self._connection.execute(STATES.replace("{run}", self._run).encode(), {"since": self._since}).fetchall()
        )

    def accept_to_broker(self, window: Window) -> dict[str, float]:
        return self._spread("called_at", window)

    def accept_to_final(self, window: Window) -> dict[str, float]:
        return self._spread("finished_at", window)

    def _spread(self, until: str, window: Window) -> dict[str, float]:
        """Percentiles in milliseconds, over the orders accepted in the window."""
        sql = SPREAD.replace("{until}", until)
        count, values = self._one(sql, begin=window.begin, end=window.end, ranks=list(RANKS.values()))
        if not count:
            return {}
        return {**{name: round(float(value), 3) for name, value in zip(RANKS, values, strict=True)}, "count": count}

    def _one(self, sql: str, **parameters: Any) -> Any:
        query = sql.replace("{run}", self._run).encode()
        return self._connection.execute(query, {"since": self._since, **parameters}).fetchone()
