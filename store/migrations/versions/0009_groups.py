"""Groups: lines of an intent that wait for each other.

`orders`       `policy`: of its group, null where no line of its intent waits for another; `after`: its leg
`intents`      `released_at`: when the lines of an ALL_OR_NONE group were let go together
`group_marks`  something came of a line of this group: its held lines are to be decided on

Revision ID: 0009
"""

from alembic import context, op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

TABLES = """
alter table orders add column policy text, add column after text;
alter table intents add column released_at timestamptz;

-- Rows are only added and taken away: whoever moves an order waits for nobody here.
create table group_marks (
    id bigint generated always as identity primary key,
    intent_id uuid not null,
    due_at timestamptz not null,
    tries integer not null default 0
) with (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0);
create index group_marks_of_intent on group_marks (intent_id);
create index group_marks_due on group_marks (due_at);

-- Held lines by their last moment. Of columns that other indexes have, so that no update of a command costs more.
create index commands_held on commands (due_at) where not live and done_at is null and stage = 'groups';
"""


def upgrade() -> None:
    app_role = context.config.attributes["app_role"]
    op.execute(TABLES)
    op.execute(f'grant select, insert, delete on group_marks to "{app_role}"')


def downgrade() -> None:
    raise RuntimeError("the record has no way back: restore a backup instead")
