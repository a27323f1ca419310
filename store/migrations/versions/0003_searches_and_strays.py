"""What exactly once needs beside the orders: searches for the unknown, strays in brokers' books, findings, user settings.

`searches`   one order whose call ended without a documented answer, while it is looked for
`strays`     an order in a broker's book that must not be there: a twin of one of ours, or one no row knows
`watches`    accounts whose books are read though they have no live order: an order of theirs went elsewhere
`findings`   where the record and a broker differ, found by the reconciler; open until a later look finds them gone
`user_settings`  what a user has chosen, over the defaults

Revision ID: 0003
"""

from alembic import context, op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

TABLES = """
create table searches (
    order_id uuid primary key,
    account_id text not null,
    fence integer not null,
    asked_at timestamptz not null,
    proof_from timestamptz not null,
    next_at timestamptz not null,
    looks integer not null default 0,
    clean_reads integer not null default 0,
    clean_at timestamptz,
    told_at timestamptz
);
create index searches_due on searches (account_id, next_at);

create table strays (
    account_id text not null,
    broker_order_id text not null,
    kind text not null check (kind in ('TWIN', 'ORPHAN')),
    tag text not null,
    order_id uuid,
    body json not null,
    found_at timestamptz not null,
    seen_at timestamptz not null,
    cancel_asked_at timestamptz,
    cancel_outcome text,
    closed_at timestamptz,
    closed_by text,
    primary key (account_id, broker_order_id)
);
create index strays_open on strays (account_id) where closed_at is null;

create table watches (
    account_id text primary key,
    until timestamptz not null
);

create table findings (
    id bigint generated always as identity primary key,
    account_id text not null,
    kind text not null,
    subject text not null,
    ours text,
    theirs text,
    found_at timestamptz not null,
    seen_at timestamptz not null,
    gone_at timestamptz
);
create unique index findings_open on findings (account_id, kind, subject) where gone_at is null;

create table user_settings (
    user_id uuid not null references users,
    name text not null,
    value jsonb not null,
    version integer not null default 1,
    updated_at timestamptz not null default now(),
    updated_by text not null,
    primary key (user_id, name)
);
"""
NAMES = ("searches", "strays", "watches", "findings", "user_settings")


def upgrade() -> None:
    app_role = context.config.attributes["app_role"]
    op.execute(TABLES)
    op.execute(f'grant select, insert, update, delete on {", ".join(NAMES)} to "{app_role}"')
    op.execute(f'revoke delete on strays, findings from "{app_role}"')
    op.execute(f'grant usage on all sequences in schema public to "{app_role}"')


def downgrade() -> None:
    raise RuntimeError("the record has no way back: restore a backup instead")
