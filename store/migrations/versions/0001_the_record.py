"""The record: intents, commands, orders, events, attempts, reports, trades, accounts and keys.

Revision ID: 0001
"""

from alembic import context, op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

APPEND_ONLY = ("order_events", "audit_log")
PARTITIONED = ("order_events", "attempts", "reports", "audit_log")
TABLES = """
create table users (
    id uuid primary key,
    name text not null unique,
    created_at timestamptz not null default now()
);

create table accounts (
    id text primary key,
    user_id uuid not null references users,
    broker text not null,
    calendar text not null,
    credentials bytea not null,
    is_default boolean not null default false,
    session text not null default 'ALIVE' check (session in ('ALIVE', 'DEAD')),
    mode text not null default 'ACTIVE' check (mode in ('ACTIVE', 'REDUCING', 'HALTED')),
    limit_paise bigint not null check (limit_paise >= 0),
    blocked_paise bigint not null default 0 check (blocked_paise >= 0),
    exposure_paise bigint not null default 0,
    open_orders integer not null default 0 check (open_orders >= 0),
    second bigint not null default 0,
    orders_this_second integer not null default 0,
    created_at timestamptz not null default now()
) with (fillfactor = 20);
create index accounts_of_user on accounts (user_id);

create table api_keys (
    id uuid primary key,
    user_id uuid not null references users,
    name text not null,
    prefix text not null unique,
    secret_hash bytea not null,
    role text not null check (role in ('trader', 'operator', 'auditor', 'admin')),
    requests_per_s integer not null,
    created_at timestamptz not null default now(),
    expires_at timestamptz,
    revoked_at timestamptz
);

create table settings (
    name text primary key,
    value jsonb not null,
    version integer not null default 1,
    updated_at timestamptz not null default now(),
    updated_by text not null
);

create table intents (
    id uuid primary key,
    user_id uuid not null,
    key_id uuid not null,
    kind text not null check (kind in ('PLACE', 'MODIFY', 'CANCEL')),
    idempotency_key text not null,
    fingerprint bytea not null,
    order_ids uuid[] not null,
    accepted_at timestamptz not null,
    window_until timestamptz not null,
    unique (user_id, idempotency_key)
);
create index intents_of_user on intents (user_id, id);

create table orders (
    id uuid primary key,
    intent_id uuid not null,
    parent_id uuid,
    slices integer not null default 0,
    line integer not null,
    correlation_id text not null,
    user_id uuid not null,
    instrument text not null,
    side text not null,
    quantity bigint not null check (quantity > 0),
    product text not null,
    order_type text not null,
    validity text not null,
    price numeric(18, 4),
    trigger_price numeric(18, 4),
    disclosed_quantity bigint not null default 0,
    market_protection numeric(6, 2),
    wanted_broker text,
    wanted_account text,
    strategy text,
    tag text,
    broker_tag text not null unique,
    broker text,
    account_id text,
    broker_order_id text,
    state text not null,
    last_seq integer not null,
    version integer not null,
    filled_quantity bigint not null default 0,
    average_price numeric(18, 4),
    reason_code text,
    reason text,
    blocked_paise bigint not null default 0 check (blocked_paise >= 0),
    exposure_paise bigint not null default 0,
    cancel_requested boolean not null default false,
    accepted_at timestamptz not null,
    send_before timestamptz not null,
    updated_at timestamptz not null,
    check (filled_quantity between 0 and quantity)
) with (fillfactor = 60);
create index orders_of_user on orders (user_id, id);
create index orders_of_parent on orders (parent_id) where parent_id is not null;

create table commands (
    order_id uuid not null,
    seq integer not null,
    kind text not null check (kind in ('PLACE', 'MODIFY', 'CANCEL')),
    stage text not null,
    state text not null check (state in ('READY', 'HELD', 'SENDING', 'UNKNOWN', 'STUCK', 'DONE')),
    due_at timestamptz not null,
    lease_until timestamptz,
    live boolean not null default true,
    attempts integer not null default 0,
    deaths integer not null default 0,
    error text,
    fence integer not null default 0,
    buried_at timestamptz,
    done_at timestamptz,
    primary key (order_id, seq),
    check (live = (state in ('READY', 'SENDING')))
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02,
        autovacuum_vacuum_threshold = 20000, autovacuum_vacuum_cost_delay = 0);
-- One index serves the claim and the expiry of leases. `live` stands for READY and SENDING: since neither it nor the
-- due time changes when a command is sent, that update touches no index.
create index commands_due on commands (stage, due_at) where live;
-- What was in the hands of a worker that died: nearly always nothing.
create index commands_suspect on commands (stage, due_at) where live and deaths > 0;
-- What waits for evidence, for its group or for an operator.
create index commands_waiting on commands (stage) where not live and done_at is null;

create table claims (
    id bigint generated always as identity primary key,
    worker text not null,
    stage text not null,
    order_ids uuid[] not null,
    opened_at timestamptz not null default now()
);

create table order_events (
    order_id uuid not null,
    seq integer not null,
    event_type text not null,
    prev_state text,
    new_state text not null,
    source text not null,
    at timestamptz not null,
    detail json not null,
    primary key (order_id, seq)
) partition by range (order_id);

create table attempts (
    order_id uuid not null,
    number integer not null,
    call_id uuid not null,
    broker text not null,
    account_id text not null,
    tag text not null,
    fence integer not null,
    request json not null,
    started_at timestamptz not null,
    lease_until timestamptz not null,
    outcome text,
    response json,
    ended_at timestamptz,
    primary key (order_id, number)
) partition by range (order_id);

create table reports (
    order_id uuid not null,
    digest bytea not null,
    source text not null,
    body json not null,
    received_at timestamptz not null,
    due_at timestamptz not null,
    applied_at timestamptz,
    primary key (order_id, digest)
) partition by range (order_id);
create index reports_due on reports (due_at) where applied_at is null;

create table trades (
    order_id uuid not null,
    exchange text not null,
    trade_id text not null,
    user_id uuid not null,
    broker text not null,
    account_id text not null,
    instrument text not null,
    side text not null,
    quantity bigint not null check (quantity > 0),
    price numeric(18, 4) not null,
    at timestamptz not null,
    primary key (order_id, exchange, trade_id)
);
create index trades_of_user on trades (user_id, at, order_id);

create table audit_log (
    id uuid not null,
    at timestamptz not null,
    actor text not null,
    action text not null,
    subject text not null,
    detail json not null,
    primary key (id)
) partition by range (id);
"""

# A version-7 id begins with its time in milliseconds, so that a range of ids is a month, and (order_id, seq) can stay
# the true primary key of a partitioned table.
FUNCTIONS = """
create function first_id_at(moment timestamptz) returns uuid language sql immutable as $$
    select (substr(stamp, 1, 8) || '-' || substr(stamp, 9, 4) || '-0000-0000-000000000000')::uuid
    from (select lpad(to_hex((extract(epoch from moment) * 1000)::bigint), 12, '0') as stamp) as hex
$$;

create function append_only() returns trigger language plpgsql as $$
begin
    raise exception '% is append-only', tg_table_name using errcode = 'insufficient_privilege';
end $$;

create function make_partitions(ahead integer) returns integer language plpgsql
security definer set search_path = public, pg_temp set timezone = 'UTC' as $$
declare
    parent text;
    month timestamptz;
    child text;
    made integer := 0;
begin
    for parent in select unnest(array['order_events', 'attempts', 'reports', 'audit_log']) loop
        for month in select generate_series(date_trunc('month', now(), 'UTC') - interval '1 month',
                                            date_trunc('month', now(), 'UTC') + ahead * interval '1 month',
                                            interval '1 month') loop
            child := parent || to_char(month at time zone 'UTC', '_YYYYMM');
            if to_regclass(child) is null then
                execute format('create table %I partition of %I for values from (%L) to (%L)%s', child, parent,
                               first_id_at(month), first_id_at(month + interval '1 month'),
                               case when parent in ('attempts', 'reports') then ' with (fillfactor = 60)' else '' end);
                if parent in ('order_events', 'audit_log') then
                    execute format('create trigger append_only_truncate before truncate on %I
                                    for each statement execute function append_only()', child);
                end if;
                made := made + 1;
            end if;
        end loop;
    end loop;
    return made;
end $$;
"""


def upgrade() -> None:
    app_role = context.config.attributes["app_role"]
    op.execute(TABLES)
    op.execute(FUNCTIONS)
    for table in APPEND_ONLY:
        op.execute(
            f"create trigger append_only_rows before update or delete on {table}"
            " for each row execute function append_only()"
        )
        op.execute(
            f"create trigger append_only_truncate before truncate on {table}"
            " for each statement execute function append_only()"
        )
    op.execute("select make_partitions(3)")
    op.execute(f'grant usage on schema public to "{app_role}"')
    op.execute(f'grant select, insert, update, delete on all tables in schema public to "{app_role}"')
    op.execute(f'revoke update, delete, truncate on order_events, audit_log from "{app_role}"')
    op.execute(f'revoke delete, truncate on orders, intents, attempts, reports, trades, commands from "{app_role}"')
    op.execute(f'revoke insert, update, delete on alembic_version from "{app_role}"')
    op.execute(f'grant usage on all sequences in schema public to "{app_role}"')
    op.execute(f'grant execute on function make_partitions(integer) to "{app_role}"')


def downgrade() -> None:
    raise RuntimeError("the record has no way back: restore a backup instead")
