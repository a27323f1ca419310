"""Schedules: what is to be done at a time.

`schedules`    one row is one time of one schedule, with what came of it

Revision ID: 0011
"""

from alembic import context, op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

TABLES = """
create table schedules (
    id uuid not null,
    part integer not null,
    user_id uuid not null,
    key_id uuid not null,
    kind text not null check (kind in ('CANCEL', 'SQUARE_OFF')),
    wanted json not null,
    sessions json,
    waits_for uuid,
    due_at timestamptz not null,
    late_by_s integer not null check (late_by_s > 0),
    state text not null check (state in ('PENDING', 'FIRING', 'FIRED', 'MISSED', 'FAILED', 'REMOVED')),
    detail text,
    intent_id uuid,
    matched integer,
    created_at timestamptz not null,
    ended_at timestamptz,
    primary key (id, part)
);
create index schedules_due on schedules (due_at) where state in ('PENDING', 'FIRING');
create index schedules_of_user on schedules (user_id, id, part);
"""


def upgrade() -> None:
    app_role = context.config.attributes["app_role"]
    op.execute(TABLES)
    op.execute(f'grant select, insert, update on schedules to "{app_role}"')


def downgrade() -> None:
    raise RuntimeError("the record has no way back: restore a backup instead")
