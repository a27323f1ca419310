"""Signals: what programs that send no key ask for, each strategy with a secret, a template and a window.

`signal_strategies`  what a user has defined; the secret's hash only
`signals`            every delivery whose secret was right: accepted, suppressed, replayed or refused, with the order it asked
                     for. An accepted one is written with its intent, and is what later ones are measured by.

Revision ID: 0010
"""

from alembic import context, op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

TABLES = """
create table signal_strategies (
    id uuid primary key,
    user_id uuid not null,
    name text not null,
    secret_hash bytea not null,
    form json not null,
    version integer not null default 1,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    updated_by text not null,
    unique (user_id, name)
) with (fillfactor = 70);

create table signals (
    id uuid primary key,
    strategy_id uuid not null,
    at timestamptz not null,
    status text not null,
    digest bytea,
    nonce text,
    intent_id uuid,
    wanted json,
    reason_code text,
    reason text
);
create index signals_of_strategy on signals (strategy_id, id);
create index signals_by_order on signals (strategy_id, digest, at) where status = 'ACCEPTED';
create index signals_by_nonce on signals (strategy_id, nonce) where status = 'ACCEPTED' and nonce is not null;
"""


def upgrade() -> None:
    app_role = context.config.attributes["app_role"]
    op.execute(TABLES)
    op.execute(f'grant select, insert, update, delete on signal_strategies to "{app_role}"')
    op.execute(f'grant select, insert on signals to "{app_role}"')


def downgrade() -> None:
    raise RuntimeError("the record has no way back: restore a backup instead")
