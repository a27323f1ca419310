"""Statistics when they tell something: large tables are analyzed after many changes, not after a few.

Every hot statement has its plan pinned to keys, so that statistics serve the read side alone, and what they say of
these tables changes slowly. By the server's defaults a busy young table is analyzed at every look of autovacuum: a
quarter of PostgreSQL's processor time went there. Rows that are only added need no vacuum for a long time, either.

Revision ID: 0002
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

OPTIONS = """
    autovacuum_analyze_threshold = 200000, autovacuum_analyze_scale_factor = 0.2,
    autovacuum_vacuum_insert_threshold = 500000
"""
WHOLE = ("intents", "orders", "commands", "trades")
# Partitions take nothing of this from their parent. Those that are made later get it when they are made.
PARTITIONS = f"""
create function set_statistics_options(partition text) returns void language plpgsql
set search_path = public, pg_temp as $$
begin
    execute format('alter table %I set ({OPTIONS})', partition);
end $$;

create or replace function make_partitions(ahead integer) returns integer language plpgsql
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
                perform set_statistics_options(child);
                made := made + 1;
            end if;
        end loop;
    end loop;
    return made;
end $$;

select set_statistics_options(child.relname)
from pg_inherits join pg_class child on child.oid = inhrelid join pg_class parent on parent.oid = inhparent
where parent.relname in ('order_events', 'attempts', 'reports', 'audit_log') and child.relkind = 'r';
"""  # noqa: S608 - our own words


def upgrade() -> None:
    for table in WHOLE:
        op.execute(f"alter table {table} set ({OPTIONS})")
    op.execute(PARTITIONS)
    op.execute("revoke all on function set_statistics_options(text) from public")


def downgrade() -> None:
    raise RuntimeError("the record has no way back: restore a backup instead")
