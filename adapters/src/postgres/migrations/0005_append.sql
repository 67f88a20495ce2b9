-- Entries of many tasks, appended by one statement.

-- Arrays with one element for each entry: tenant, task, epoch, number of entries and life as the task
-- must stand, the entry, and whether it is a checkpoint, a change of state, the end. Answers those that
-- were written: their place in the arrays, from 1, and how many entries are kept before the task's newest
-- checkpoint. A task that stands otherwise is left as it is, and so is one whose row somebody else
-- holds: everybody in this statement would wait for it.
create function keybaton.append(text[], text[], bigint[], bigint[], bytea[], bytea[],
    boolean[], boolean[], boolean[])
returns table (place bigint, behind bigint) language plpgsql
-- As in keybaton.write.
set plan_cache_mode = force_generic_plan set enable_seqscan = off as $$
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
