"""What can be asked of intents that modify or cancel: their lines in pages, their figures, which are still waited for."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from readmodel.asking import Scope, plain_rows
from readmodel.change_views import Count, change_view, changes_summary
from readmodel.views import View

_INTENT = """
select id, kind, accepted_at from intents where id = %s and (%s::uuid is null or user_id = %s)
    and kind in ('MODIFY', 'CANCEL')
"""

# A soft cancel is settled once it is marked, as far as waiting goes: it is carried out in its own time.
_MARKED = "{c}.result is null and coalesce({c}.wanted ->> 'mode', '') = 'SOFT'"

# Lines that were answered at once have no row of their own: they are told in the intent's answer. What comes of an order
# that another intent was cancelling already is that intent's word. Where somebody has urged it, that is waited for.
_ANSWERED = f"""
select i.id as intent_id, a.line, a.order_id, a.code, a.state, a.intent_id as by_intent, i.user_id, i.accepted_at,
    case a.code when 'ALREADY_CANCELLING' then by.result else a.code end as result,
    a.code = 'ALREADY_CANCELLING' and {_MARKED.format(c="by")} and by.wanted ->> 'urged_by' is null as marked,
    by.settled_at
from intents i
    cross join json_to_recordset(i.answer -> 'answered')
        as a (line integer, order_id uuid, code text, state text, intent_id uuid)
    left join changes by on by.order_id = a.order_id and by.intent_id = a.intent_id
"""  # noqa: S608
# The slices of an order carry its line; they were made after it, so that the line's first order is the one that is meant.
_COUNTS = f"""
select intent_id, result, marked, done, count(*) from (
    (select distinct on (c.intent_id, c.line) c.intent_id, c.result, {_MARKED.format(c="c")} as marked,
        c.result in ('CANCELLED', 'MODIFIED') as done
     from changes c where c.intent_id = any(%(intents)s::uuid[]) order by c.intent_id, c.line, c.order_id)
    union all
    select intent_id, result, marked, result = 'CANCELLED' or code = 'ALREADY_ENDED' and state = 'CANCELLED'
    from ({_ANSWERED} where i.id = any(%(intents)s::uuid[])) answered
) line group by intent_id, result, marked, done
"""  # noqa: S608

_ORDER_COLUMNS = (
    "o.correlation_id, o.state, o.version, o.instrument, o.side, o.quantity, o.filled_quantity, o.average_price,"
    " coalesce(o.broker, o.wanted_broker) as broker, coalesce(o.account_id, o.wanted_account) as account_id"
)
_WORK_COLUMNS = (
    "w.stage as work_stage, w.state as work_state, w.attempts as work_attempts, w.due_at as work_due_at,"
    " w.error as work_error"
)
_CHANGE_COLUMNS = (
    "c.line, c.order_id, c.intent_id, c.wanted, c.result, c.told, c.told_detail, c.reason_code, c.reason, c.asked_at,"
    " c.settled_at"
)
_LINES = f"""
(select distinct on (c.line) {_CHANGE_COLUMNS}, %(kind)s as kind, null::uuid as by_intent, {_ORDER_COLUMNS},
    {_WORK_COLUMNS}
 from changes c join orders o on o.id = c.order_id
    left join commands w on w.order_id = c.order_id and w.seq = c.seq and w.done_at is null
 where c.intent_id = %(intent)s and c.line > %(after)s order by c.line, c.order_id limit %(limit)s)
union all
(select c.line, c.order_id, c.intent_id, null, c.result, null, null, c.code, null, c.accepted_at,
    case when c.code = 'ALREADY_CANCELLING' then c.settled_at else c.accepted_at end, %(kind)s, c.by_intent,
    {_ORDER_COLUMNS}, null, null, null, null, null
 from ({_ANSWERED} where i.id = %(intent)s) c left join orders o on o.id = c.order_id and o.user_id = c.user_id
 where c.line > %(after)s order by c.line limit %(limit)s)
order by line limit %(limit)s
"""  # noqa: S608

_UNDONE = f"""
select {_CHANGE_COLUMNS}, w.kind, null as by_intent, {_ORDER_COLUMNS}, {_WORK_COLUMNS}
from changes c join orders o on o.id = c.order_id join commands w on w.order_id = c.order_id and w.seq = c.seq
where c.order_id = %s and c.settled_at is null order by c.seq
"""  # noqa: S608

_WAITED_FOR = f"""
select v.id from unnest(%(intents)s::uuid[]) as v (id)
where exists (select 1 from changes c where c.intent_id = v.id and c.settled_at is null and not ({_MARKED.format(c="c")}))
    or exists (select 1 from ({_ANSWERED} where i.id = v.id) a where a.result is null and not a.marked)
"""  # noqa: S608


def changes_intent(
    connection: Connection, scope: Scope, intent_id: str, *, limit: int, after: int | None
) -> View | None:
    """An intent that modifies or cancels: its figures, and a page of its lines from after that one on."""
    found = plain_rows(connection, _INTENT, (intent_id, scope.user_id, scope.user_id))
    if not found:
        return None
    asked = {"intent": intent_id, "kind": found[0].kind, "after": -1 if after is None else after, "limit": limit + 1}
    rows = plain_rows(connection, _LINES, asked)
    counts = counts_of(connection, [intent_id]).get(intent_id, [])
    return {
        **changes_summary(intent_id, found[0].kind, found[0].accepted_at, counts),
        "changes": [change_view(row) for row in rows[:limit]],
        "next": str(rows[limit - 1].line) if len(rows) > limit else None,
    }


def counts_of(connection: Connection, intent_ids: Sequence[str]) -> dict[str, list[Count]]:
    """How many lines of each of these intents have which result."""
    found: dict[str, list[Count]] = {}
    if intent_ids:
        for row in plain_rows(connection, _COUNTS, {"intents": list(intent_ids)}):
            found.setdefault(row[0], []).append(Count(*row))
    return found


def undone_of(connection: Connection, order_id: str) -> list[View]:
    """The changes of an order that are under way; whoever asks may see the order."""
    return [change_view(row) for row in plain_rows(connection, _UNDONE, (order_id,))]


def waited_for(connection: Connection, intent_ids: Sequence[str]) -> set[str]:
    """Those of these intents that have a line of which it isn't known yet what came of it."""
    return {row[0] for row in plain_rows(connection, _WAITED_FOR, {"intents": list(intent_ids)})}
