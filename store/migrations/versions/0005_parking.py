"""What operators need: what they have parked, and which of their requests were done already.

`parkings`   a stuck or unknown order that is out of the operators' list, for a time or until somebody takes it back
`acts`       an operator's request over REST by its Idempotency-Key, with the answer that it got

Revision ID: 0005
"""

from alembic import context, op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

TABLES = """
create table parkings (
    order_id uuid primary key,
    state text not null,
    fence integer not null,
    until timestamptz,
    operator text not null,
    reason text not null,
    parked_at timestamptz not null
);

create table acts (
    user_id uuid not null,
    idempotency_key text not null,
    fingerprint bytea not null,
    answer json,
    at timestamptz not null,
    primary key (user_id, idempotency_key)
);

-- What has stopped, in the order of its ids: the operators' list goes through it page by page.
create index commands_stopped on commands (order_id) where not live and done_at is null;
"""


def upgrade() -> None:
    app_role = context.config.attributes["app_role"]
    op.execute(TABLES)
    op.execute(f'grant select, insert, update, delete on parkings, acts to "{app_role}"')
    op.execute(f'revoke delete on acts from "{app_role}"')


def downgrade() -> None:
    raise RuntimeError("the record has no way back: restore a backup instead")
