"""Order streams: who listens to which account, and the fills that a stream told of whose trades are still to be read.

`listeners`       one listening process, while it lives
`stream_leases`   one account's order stream in a process's hands
`awaited_trades`  one order that a stream showed as filled, or more filled, until its trades are there: a stream tells
                  none, and an account without live orders is otherwise not read

Revision ID: 0004
"""

from alembic import context, op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

TABLES = """
create table listeners (
    name text primary key,
    until timestamptz not null
);

create table stream_leases (
    account_id text primary key,
    holder text not null,
    until timestamptz not null
);

create table awaited_trades (
    order_id uuid primary key,
    account_id text not null,
    filled bigint not null,
    since timestamptz not null default now()
);
create index awaited_trades_of_account on awaited_trades (account_id);
"""


def upgrade() -> None:
    app_role = context.config.attributes["app_role"]
    op.execute(TABLES)
    op.execute(f'grant select, insert, update, delete on listeners, stream_leases, awaited_trades to "{app_role}"')


def downgrade() -> None:
    raise RuntimeError("the record has no way back: restore a backup instead")
