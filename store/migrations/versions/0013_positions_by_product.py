"""The index of positions by product and time, so that what is asked of one position, or one product, reads no more than that.

`orders_of_position`   `(user_id, product, instrument, id)` in place of `(user_id, instrument)`: a standing in MIS reads
                       today's orders, a square-off reads one product's

Built while orders can be read and not written: a second for each million of them, about.

Revision ID: 0013
"""

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

INDEX = """
drop index orders_of_position;
-- Neither a fill nor a change of state touches it, so that these stay updates in place.
create index orders_of_position on orders (user_id, product, instrument, id) where product in ('MIS', 'NRML', 'MTF');
"""


def upgrade() -> None:
    op.execute(INDEX)


def downgrade() -> None:
    raise RuntimeError("the record has no way back: restore a backup instead")
