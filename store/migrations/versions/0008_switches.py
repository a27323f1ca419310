"""Switches, and what holds the settings of one owner together.

`switches`            what may be sent for everybody, a user, an account or a user's strategy, and what its last change wants done
`setting_documents`   the version of the admins' settings, and of each user's
`intents`             `closing`: made to close positions, and let through a halt where it does
`orders`              an index for the net of an account in one instrument; CNC needs none, and has none

A switch takes the place of `accounts.mode`. That column stays for older processes, and goes in a later release.

Revision ID: 0008
"""

from alembic import context, op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

TABLES = """
create table switches (
    scope text not null check (scope in ('ALL', 'USER', 'ACCOUNT', 'STRATEGY')),
    subject text not null,
    mode text not null check (mode in ('ACTIVE', 'REDUCING', 'HALTED')),
    version integer not null,
    reason text not null,
    by text not null,
    by_operator boolean not null,
    at timestamptz not null,
    wanted json not null,
    followed json not null default '{}',
    carried_out_at timestamptz,
    primary key (scope, subject)
);
create index switches_in_force on switches (subject) where mode <> 'ACTIVE';
create index switches_undone on switches (at) where carried_out_at is null;

create table setting_documents (
    owner text primary key,
    version integer not null
);

insert into switches (scope, subject, mode, version, reason, by, by_operator, at, wanted, carried_out_at)
    select 'ACCOUNT', id, mode, 1, 'the mode of the account before there were switches', 'migration', true, now(), '{}', now()
    from accounts where mode <> 'ACTIVE';
insert into setting_documents (owner, version) select 'admin', 1 from settings having count(*) > 0;
insert into setting_documents (owner, version) select distinct user_id::text, 1 from user_settings;

alter table intents add column closing boolean not null default false;

-- Neither a fill nor a change of state touches it, so that these stay updates in place.
create index orders_of_position on orders (user_id, instrument) where product in ('MIS', 'NRML', 'MTF');
"""


def upgrade() -> None:
    app_role = context.config.attributes["app_role"]
    op.execute(TABLES)
    op.execute(f'grant select, insert, update on switches, setting_documents to "{app_role}"')


def downgrade() -> None:
    raise RuntimeError("the record has no way back: restore a backup instead")
