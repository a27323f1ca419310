"""Reconciliations: one row an account, with when it is compared to its broker next, who is at it, and what came of it.

`memory` is what the last look saw and one look alone doesn't prove: differences that a second one has to confirm, and
orders that rested after their session's end.

Revision ID: 0006
"""

from alembic import context, op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

TABLES = """
create table reconciliations (
    account_id text primary key,
    due_at timestamptz not null,
    asked integer not null default 0,
    answered integer not null default 0,
    run_id uuid,
    lease_until timestamptz,
    began_at timestamptz,
    ended_at timestamptz,
    looks bigint not null default 0,
    outcome text,
    detail text,
    suspected integer not null default 0,
    memory json not null default '{}'
);
"""


def upgrade() -> None:
    app_role = context.config.attributes["app_role"]
    op.execute(TABLES)
    op.execute(f'grant select, insert, update, delete on reconciliations to "{app_role}"')


def downgrade() -> None:
    raise RuntimeError("the record has no way back: restore a backup instead")
