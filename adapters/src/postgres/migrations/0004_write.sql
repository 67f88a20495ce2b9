-- Everything that one transaction writes, in one statement: by itself it is written whole or not at
-- all, in one round trip.

-- Compares and writes. Arrays of one group have one element for each row:
--   $1 advisory locks, in order; $2, $3 nodes and the lives that they must be in (taken so that no new
--   life begins before this transaction ends);
--   $4..$19 pairs: tenant, provider, how often it was written, epoch, revision, last transaction and
--   end of the audit as they were seen, then epoch, revision, owner's node and life, last transaction,
--   due time, work, record (null: it stays) and end of the audit (null: it stays);
--   $20..$26 versions; $27..$31 grants that go; $32..$37 grants; $38..$45 audit;
--   $46..$48 events that were published; $49..$53 events; $54 the clock's mark, or null.
create function keybaton.write(bigint[], text[], bigint[],
    text[], text[], bigint[], bigint[], bigint[], bytea[], bytea[],
    bigint[], bigint[], text[], bigint[], bytea[], bigint[], boolean[], bytea[], bytea[],
    text[], text[], bigint[], text[], text[], text[], bytea[],
    text[], text[], bigint[], text[], bytea[],
    text[], text[], bigint[], text[], bytea[], bigint[],
    text[], text[], bigint[], bytea[], bytea[], text[], text[], bytea[],
    text[], text[], bigint[],
    text[], text[], bigint[], bigint[], bytea[],
    bigint)
returns void language plpgsql as $$
#variable_conflict use_column
declare
    done bigint;
    more bigint := 0;
begin
    -- Each statement sees what was committed before it began, so that nothing is compared before
    -- the locks are there.
    if cardinality($1) > 0 then
        perform pg_advisory_xact_lock(k) from unnest($1) as a(k);
    end if;
    if cardinality($2) > 0 then
        select count(*) into done from (
            select from unnest($2, $3) as a(node, life)
            join keybaton.node_lease l on l.node_id = a.node and l.incarnation = a.life
            order by l.node_id for share of l) as alive;
        perform keybaton.demand(done, cardinality($2));
    end if;
    update keybaton.pair p set touched = a.seen + 1, epoch = a.epoch, rev = a.rev,
        owner_node = a.owner_node, owner_incarnation = a.owner_incarnation,
        last_txn = a.last_txn, next_rotate_at_ms = a.next_rotate_at_ms, has_work = a.has_work,
        record = coalesce(a.record, p.record), audit_head = coalesce(a.audit_head, p.audit_head)
    from unnest($4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)
        as a(tenant, provider, seen, seen_epoch, seen_rev, seen_txn, seen_head, epoch, rev,
            owner_node, owner_incarnation, last_txn, next_rotate_at_ms, has_work, record, audit_head)
    where p.tenant = a.tenant and p.provider = a.provider
        and p.touched = a.seen and p.epoch = a.seen_epoch and p.rev = a.seen_rev
        and p.last_txn is not distinct from a.seen_txn
        and p.audit_head is not distinct from a.seen_head;
    get diagnostics done = row_count;
    if 0 = any ($6) then
        insert into keybaton.pair (tenant, provider, touched, epoch, rev, owner_node,
            owner_incarnation, last_txn, next_rotate_at_ms, has_work, record, audit_head)
        select a.tenant, a.provider, 1, a.epoch, a.rev, a.owner_node, a.owner_incarnation, a.last_txn,
            a.next_rotate_at_ms, a.has_work, a.record, a.audit_head
        from unnest($4, $5, $6, $11, $12, $13, $14, $15, $16, $17, $18, $19)
            as a(tenant, provider, seen, epoch, rev, owner_node, owner_incarnation, last_txn,
                next_rotate_at_ms, has_work, record, audit_head)
        where a.seen = 0 on conflict do nothing;
        get diagnostics more = row_count;
    end if;
    perform keybaton.demand(done + more, cardinality($4));
    if cardinality($20) > 0 then
        -- The new active version comes behind the one that it replaces: there is one at every
        -- moment.
        insert into keybaton.version as w
            (tenant, provider, v, status, label, provider_key_id, fp)
        select * from unnest($20, $21, $22, $23, $24, $25, $26)
            as a(tenant, provider, v, status, label, provider_key_id, fp)
        order by a.status = 'ACTIVE'
        on conflict (tenant, provider, v) do update set status = excluded.status,
            label = excluded.label, provider_key_id = excluded.provider_key_id, fp = excluded.fp;
    end if;
    if cardinality($27) > 0 then
        delete from keybaton.grant_row g
        using unnest($27, $28, $29, $30, $31) as a(tenant, provider, v, node_id, grant_id)
        where g.tenant = a.tenant and g.provider = a.provider and g.v = a.v
            and g.node_id = a.node_id and g.grant_id = a.grant_id;
    end if;
    if cardinality($32) > 0 then
        insert into keybaton.grant_row (tenant, provider, v, node_id, grant_id, incarnation)
        select * from unnest($32, $33, $34, $35, $36, $37)
        on conflict (tenant, provider, v, node_id) do update
            set incarnation = excluded.incarnation, grant_id = excluded.grant_id;
    end if;
    if cardinality($38) > 0 then
        insert into keybaton.audit (tenant, provider, seq, prev, hash, kind, dedupe, body)
        select * from unnest($38, $39, $40, $41, $42, $43, $44, $45);
    end if;
    if cardinality($46) > 0 then
        delete from keybaton.outbox o using unnest($46, $47, $48) as a(tenant, provider, published)
        where o.tenant = a.tenant and o.provider = a.provider and o.rev <= a.published;
    end if;
    if cardinality($49) > 0 then
        insert into keybaton.outbox (tenant, provider, rev, place, body)
        select * from unnest($49, $50, $51, $52, $53);
    end if;
    if $54 is not null then
        update keybaton.meta set time_ms = greatest(time_ms, $54);
    end if;
end $$;
