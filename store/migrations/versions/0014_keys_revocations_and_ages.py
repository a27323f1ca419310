"""Keys that belong to one request whatever it does, signals that were revoked, and rows that have their time.

`intents`              the kind ACT: a row that holds the idempotency key of an act, and is no intent to anybody
`signal_revocations`   until when what a signal strategy has placed is not sent: it was switched off or removed, or its
                       secret changed
`signals`, `acts`, `schedules`   the app may delete what has had its time; the indexes find that by its age

Revision ID: 0014
"""

from alembic import context, op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

CHANGES = """
-- What is there satisfies it already: no row is read for it, and the lock is had for a moment.
alter table intents drop constraint intents_kind_check;
alter table intents add constraint intents_kind_check check (kind in ('PLACE', 'MODIFY', 'CANCEL', 'ACT')) not valid;

insert into intents (id, user_id, key_id, kind, idempotency_key, fingerprint, order_ids, accepted_at, window_until)
select gen_random_uuid(), user_id, '00000000-0000-0000-0000-000000000000', 'ACT', idempotency_key, fingerprint, '{}', at, at
from acts on conflict (user_id, idempotency_key) do nothing;

create table signal_revocations (
    strategy_id uuid primary key,
    at timestamptz not null
);

create index acts_by_age on acts (at);
create index schedules_by_age on schedules (ended_at) where ended_at is not null;
-- An accepted signal with a nonce is what a later one with the same nonce is measured by, however late that comes.
create index signals_by_age on signals (at) where status <> 'ACCEPTED' or nonce is null;
"""


def upgrade() -> None:
    app_role = context.config.attributes["app_role"]
    op.execute(CHANGES)
    op.execute(f'grant select, insert, update, delete on signal_revocations to "{app_role}"')
    op.execute(f'grant delete on signals, acts, schedules to "{app_role}"')


def downgrade() -> None:
    raise RuntimeError("the record has no way back: restore a backup instead")
