-- Checkpoints: one partition for each tenant, made on first use together with the tenant's role.

create table keybaton.checkpoint (
    tenant text collate "C" not null,
    -- Path below the tenant: the task, and the digest of the sealed bytes.
    key text collate "C" not null,
    -- Sealed under the tenant's key.
    body bytea not null,
    primary key (tenant, key)
) partition by list (tenant);
alter table keybaton.checkpoint alter column body set storage external;
alter table keybaton.checkpoint enable row level security;
alter table keybaton.checkpoint force row level security;

-- Puts and deletes checkpoints of many tenants, each as the tenant's own role. Arrays with one element
-- for each: suffix of the tenant's partition and role, tenant, key, and the body (null: delete).
create function keybaton.change_checkpoints(text[], text[], text[], bytea[])
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
