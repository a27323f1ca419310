"""Modifies and cancels: instructions for orders that are there already.

`changes`      beside a MODIFY or CANCEL command: which intent asked for it, for what, and what came of it
`book_reads`   the newest complete read of an account's book: what a change waits for before it is judged
`orders`       `changing`: how many undone changes an order has; `modifies`: how many modify calls were made for it
`intents`      `answer`: what an intent that changes orders was answered, beside its lines
`attempts`     `kind`: which instruction a call carried

Revision ID: 0007
"""

from alembic import context, op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

TABLES = """
create table changes (
    order_id uuid not null,
    seq integer not null check (seq > 0),
    intent_id uuid not null,
    line integer not null,
    wanted json not null,
    asked_at timestamptz not null,
    told text,
    told_detail text,
    proof_from timestamptz,
    result text,
    reason_code text,
    reason text,
    settled_at timestamptz,
    primary key (order_id, seq)
) with (fillfactor = 70);
create index changes_of_intent on changes (intent_id, line);

create table book_reads (
    account_id text primary key,
    began_at timestamptz not null
) with (fillfactor = 50);

alter table orders add column changing integer not null default 0, add column modifies integer not null default 0;
alter table intents add column answer json;
alter table attempts add column kind text not null default 'PLACE';

-- The undone changes of an order; a placement is never in it, so that it costs the common way nothing.
create index commands_changing on commands (order_id) where seq > 0 and done_at is null;
"""


def upgrade() -> None:
    app_role = context.config.attributes["app_role"]
    op.execute(TABLES)
    op.execute(f'grant select, insert, update on changes, book_reads to "{app_role}"')


def downgrade() -> None:
    raise RuntimeError("the record has no way back: restore a backup instead")
