-- Everything that one transaction writes, in one statement: by itself it is written whole or not at
-- all, in one round trip. Rows come as arrays of rows: one argument for each table, not one for each
-- column.

-- A pair as it was seen (seen: how often it was written; 0: it was not there), and what becomes of it.
-- A record or an end of the audit that is null stays.
create type keybaton.pair_change as (
    tenant text collate "C",
    provider text collate "C",
    seen bigint,
    seen_epoch bigint,
    seen_rev bigint,
    seen_txn bytea,
    seen_head bytea,
    epoch bigint,
    rev bigint,
    owner_node text collate "C",
    owner_incarnation bigint,
    last_txn bytea,
    next_rotate_at_ms bigint,
    has_work boolean,
    record bytea,
    audit_head bytea
);

-- Compares and writes. No new life of the nodes begins before this transaction ends. Pairs are in the
-- order of their names: whoever writes several locks their rows in that order, so that two never wait for
-- each other in a circle. Published: a pair, and the last revision whose events go. The clock's mark may
-- be null.
create function keybaton.write(
    nodes text[],
    lives bigint[],
    pairs keybaton.pair_change[],
    versions keybaton.version[],
    grants_gone keybaton.grant_row[],
    grants keybaton.grant_row[],
    records keybaton.audit[],
    published_tenants text[],
    published_providers text[],
    published_revs bigint[],
    events keybaton.outbox[],
    now_ms bigint)
returns void language plpgsql
-- Looked up by key, one after the other: whatever is known of a table when that is thought out, it may
-- be a thousand times as large before it is thought out again.
set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_mergejoin = off set enable_hashjoin = off as $$
#variable_conflict use_column
declare
    done bigint;
    more bigint;
begin
    if cardinality(nodes) > 0 then
        select count(*) into done from (
            select from unnest(nodes, lives) as a(node, life)
            join keybaton.node_lease l on l.node_id = a.node and l.incarnation = a.life
            order by l.node_id for share of l) as alive;
        if done <> cardinality(nodes) then
            perform keybaton.lost(done, cardinality(nodes));
        end if;
    end if;
    -- A row that somebody else is writing is waited for, and then compared as it has become.
    update keybaton.pair p set touched = a.seen + 1, epoch = a.epoch, rev = a.rev,
        owner_node = a.owner_node, owner_incarnation = a.owner_incarnation,
        last_txn = a.last_txn, next_rotate_at_ms = a.next_rotate_at_ms, has_work = a.has_work,
        record = coalesce(a.record, p.record), audit_head = coalesce(a.audit_head, p.audit_head)
    from unnest(pairs) as a
    where p.tenant = a.tenant and p.provider = a.provider
        and p.touched = a.seen and p.epoch = a.seen_epoch and p.rev = a.seen_rev
        and p.last_txn is not distinct from a.seen_txn
        and p.audit_head is not distinct from a.seen_head;
    get diagnostics done = row_count;
    if done <> cardinality(pairs) then
        insert into keybaton.pair (tenant, provider, touched, epoch, rev, owner_node,
            owner_incarnation, last_txn, next_rotate_at_ms, has_work, record, audit_head)
        select a.tenant, a.provider, 1, a.epoch, a.rev, a.owner_node, a.owner_incarnation, a.last_txn,
            a.next_rotate_at_ms, a.has_work, a.record, a.audit_head
        from unnest(pairs) as a where a.seen = 0 on conflict do nothing;
        get diagnostics more = row_count;
        if done + more <> cardinality(pairs) then
            perform keybaton.lost(done + more, cardinality(pairs));
        end if;
    end if;
    if cardinality(versions) > 0 then
        -- The new active version comes behind the one that it replaces: there is one at every
        -- moment.
        insert into keybaton.version as w
        select a.* from unnest(versions) as a order by a.status = 'ACTIVE'
        on conflict (tenant, provider, v) do update set status = excluded.status,
            label = excluded.label, provider_key_id = excluded.provider_key_id, fp = excluded.fp;
    end if;
    if cardinality(grants_gone) > 0 then
        delete from keybaton.grant_row g using unnest(grants_gone) as a
        where g.tenant = a.tenant and g.provider = a.provider and g.v = a.v
            and g.node_id = a.node_id and g.grant_id = a.grant_id;
    end if;
    if cardinality(grants) > 0 then
        insert into keybaton.grant_row select a.* from unnest(grants) as a
        on conflict (tenant, provider, v, node_id) do update
            set incarnation = excluded.incarnation, grant_id = excluded.grant_id;
    end if;
    if cardinality(records) > 0 then
        insert into keybaton.audit select a.* from unnest(records) as a;
    end if;
    if cardinality(published_tenants) > 0 then
        delete from keybaton.outbox o
        using unnest(published_tenants, published_providers, published_revs)
            as a(tenant, provider, published)
        where o.tenant = a.tenant and o.provider = a.provider and o.rev <= a.published;
    end if;
    if cardinality(events) > 0 then
        insert into keybaton.outbox select a.* from unnest(events) as a;
    end if;
    if now_ms is not null then
        update keybaton.meta set time_ms = greatest(time_ms, now_ms);
    end if;
end $$;
