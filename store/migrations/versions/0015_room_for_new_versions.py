"""Room on each page for the versions that a batch writes, so that they stay beside the old ones and touch no index.

`orders`, `commands`, `attempts`   filled to 45 %: a batch changes all rows of a page in one transaction, and nothing of the
                                   old versions can be reused before it has ended

Before, half of the updates of `orders` and `attempts` found no room. Pages that are full already stay as they are.

Revision ID: 0015
"""

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

ROOM = """
alter table orders set (fillfactor = 45);
alter table commands set (fillfactor = 45);

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
                               case parent when 'attempts' then ' with (fillfactor = 45)'
                                           when 'reports' then ' with (fillfactor = 60)' else '' end);
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

do $$
declare
    partition text;
begin
    for partition in select inhrelid::regclass::text from pg_inherits where inhparent = 'attempts'::regclass loop
        execute format('alter table %s set (fillfactor = 45)', partition);
    end loop;
end $$;
"""


def upgrade() -> None:
    op.execute(ROOM)


def downgrade() -> None:
    raise RuntimeError("the record has no way back: restore a backup instead")
