-- Entries of many tasks and checkpoints of many tenants, each written by one statement.

-- Sealed bytes do not shrink.
alter table keybaton.pair alter column record set storage external;
alter table keybaton.audit alter column body set storage external;
alter table keybaton.outbox alter column body set storage external;

-- Looked up by key, one after the other, as in keybaton.write.
--
-- Arrays with one element for each entry: tenant, task, epoch, number of entries and life as the task
-- must stand, the entry, and whether it is a checkpoint, a change of state, the end. Answers those that
-- were written: their place in the arrays, from 1, and how many entries are kept before the task's newest
-- checkpoint. A task that stands otherwise is left as it is, and so is one whose row somebody else
-- holds: everybody in this statement would wait for it.
create function keybaton.append(text[], text[], bigint[], bigint[], bytea[], bytea[],
    boolean[], boolean[], boolean[])
returns table (place bigint, behind bigint) language plpgsql
set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_mergejoin = off set enable_hashjoin = off as $$
#variable_conflict use_column
begin
    return query
        with held as (
            select t.ctid as at, a.*
            from unnest($1, $2, $3, $4, $5, $6, $7, $8, $9) with ordinality
                as a(tenant, task, epoch, rev, born, body, is_checkpoint, is_state, is_end, place)
            join keybaton.task t on t.tenant = a.tenant and t.task = a.task
                and t.epoch = a.epoch and t.rev = a.rev and t.born = a.born
            for update of t skip locked),
        moved as (
            update keybaton.task t set rev = t.rev + 1,
                checkpoint = case when h.is_checkpoint then t.rev else t.checkpoint end,
                state = case when h.is_state then t.rev else t.state end,
                has_ended = case when h.is_state then h.is_end else t.has_ended end
            from held h where t.ctid = h.at
            returning h.place, h.tenant, h.task, h.rev, h.body, t.checkpoint - t.tail as behind),
        written as (
            insert into keybaton.task_entry (tenant, task, idx, body)
            select m.tenant, m.task, m.rev, m.body from moved m)
        select m.place, m.behind from moved m;
end $$;

-- Puts and deletes checkpoints of many tenants, each as the tenant's own role. Arrays with one element
-- for each: suffix of the tenant's partition and role, tenant, key, and the body (null: delete); last,
-- whether to wait for a partition that somebody has locked: who writes for many does not.
create function keybaton.change_checkpoints(text[], text[], text[], bytea[], boolean)
returns void language plpgsql as $$
declare
    these record;
begin
    for these in
        select a.suffix, a.tenant,
            array_agg(a.key) filter (where a.body is not null) as keys,
            array_agg(a.body) filter (where a.body is not null) as bodies,
            array_agg(a.key) filter (where a.body is null) as gone
        from unnest($1, $2, $3, $4) as a(suffix, tenant, key, body)
        group by a.suffix, a.tenant order by a.suffix
    loop
        -- Until this statement ends, or the next tenant's turn comes.
        execute format('set local role %I', 'keybaton_' || these.suffix);
        if not $5 then
            execute format('lock table keybaton.%I in row exclusive mode nowait',
                'checkpoint_' || these.suffix);
        end if;
        if these.keys is not null then
            execute format('insert into keybaton.%I (tenant, key, body)
                select $1, a.key, a.body from unnest($2, $3) as a(key, body)',
                'checkpoint_' || these.suffix) using these.tenant, these.keys, these.bodies;
        end if;
        if these.gone is not null then
            execute format('delete from keybaton.%I where tenant = $1 and key = any ($2)',
                'checkpoint_' || these.suffix) using these.tenant, these.gone;
        end if;
    end loop;
end $$;
