"""Switches: the lock and the look in one question, asked once for each batch of orders.

`switches_in_force(subjects)`    takes the switches' lock, shared, and then gives those that aren't ACTIVE

Being volatile, it looks again for each of its statements: what a change has committed while the lock was waited for is
seen.

Revision ID: 0012
"""

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

FUNCTION = """
create function switches_in_force(subjects text[]) returns setof switches language plpgsql volatile as $$
begin
    perform pg_advisory_xact_lock_shared(7302, 1);
    return query select * from switches where mode <> 'ACTIVE' and subject = any(subjects);
end $$;
"""


def upgrade() -> None:
    op.execute(FUNCTION)


def downgrade() -> None:
    raise RuntimeError("the record has no way back: restore a backup instead")
