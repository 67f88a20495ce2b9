-- Pairs: the record, and beside it what guards and indexes need to see.
--
-- Texts compare by their bytes: an index must not depend on the locale of the machine.

create table keybaton.meta (
    one boolean primary key default true check (one),
    -- Not a secret: names the store in every envelope and salts its keys.
    store_id bytea not null check (octet_length(store_id) = 16),
    -- Sealed; opens only with the right master key.
    identity bytea not null,
    -- High-water mark of the clock, milliseconds since the epoch.
    time_ms bigint not null default 0
);

create table keybaton.node_lease (
    node_id text collate "C" primary key,
    incarnation bigint not null check (incarnation > 0)
);

-- A row without a record is a pair that has only an audit. First what always has the same length: of
-- whatever stands behind something else the place must be looked for in each row. One check: each one is
-- made ready anew for every statement.
create table keybaton.pair (
    -- One more at every write to anything of this pair.
    touched bigint not null,
    rev bigint not null,
    epoch bigint not null,
    has_work boolean not null default false,
    tenant text collate "C" not null,
    provider text collate "C" not null,
    last_txn bytea,
    -- Sealed: number and hash of the last audit record.
    audit_head bytea,
    owner_incarnation bigint,
    owner_node text collate "C",
    next_rotate_at_ms bigint,
    -- Sealed.
    record bytea,
    primary key (tenant, provider),
    check (touched > 0 and rev >= 0 and epoch >= 0 and octet_length(last_txn) = 16
        and (rev = 0) = (record is null) and (record is null) = (last_txn is null))
);
create index pairs_at_work on keybaton.pair (tenant, provider) where has_work;

-- Rows are never deleted: they are the claims on keys and secrets.
create table keybaton.version (
    tenant text collate "C" not null,
    provider text collate "C" not null,
    v bigint not null check (v > 0),
    status text not null check (status in ('INTENT', 'STAGED', 'ACTIVE', 'DRAINING',
        'REVOKE_PENDING', 'REVOKED', 'UNRESOLVED', 'GONE')),
    label text collate "C",
    provider_key_id text collate "C",
    fp bytea check (octet_length(fp) = 32),
    primary key (tenant, provider, v),
    foreign key (tenant, provider) references keybaton.pair
);
create unique index one_active on keybaton.version (tenant, provider) where status = 'ACTIVE';
create unique index one_label on keybaton.version (label) where label is not null;
create unique index one_key on keybaton.version (provider, provider_key_id)
    where provider_key_id is not null;
create unique index one_secret on keybaton.version (fp) where fp is not null;

create table keybaton.grant_row (
    tenant text collate "C" not null,
    provider text collate "C" not null,
    v bigint not null,
    node_id text collate "C" not null,
    incarnation bigint not null,
    grant_id bytea not null check (octet_length(grant_id) = 16),
    primary key (tenant, provider, v, node_id),
    foreign key (tenant, provider) references keybaton.pair
);
create index grants_of_a_node on keybaton.grant_row (node_id);

create table keybaton.audit (
    tenant text collate "C" not null,
    provider text collate "C" not null,
    seq bigint not null check (seq > 0),
    prev bytea not null check (octet_length(prev) = 32),
    hash bytea not null check (octet_length(hash) = 32),
    kind text collate "C" not null,
    dedupe text collate "C" not null,
    -- Sealed.
    body bytea not null,
    primary key (tenant, provider, seq),
    unique (tenant, provider, kind, dedupe)
);

create table keybaton.outbox (
    tenant text collate "C" not null,
    provider text collate "C" not null,
    rev bigint not null,
    place bigint not null,
    -- Sealed.
    body bytea not null,
    primary key (tenant, provider, rev, place)
);

-- Ends the transaction: not every row that should have been written was.
create function keybaton.lost(written bigint, wanted bigint) returns void language plpgsql as $$
begin
    raise exception 'compare-and-set lost: % of % rows', written, wanted using errcode = 'KB001';
end $$;

-- Revision and epoch never go back, whoever writes. The condition stands in the trigger: for a row
-- that may be written nothing is called. Behind the write and not before it: what comes before locks
-- each row once more.
create function keybaton.forward_only() returns trigger language plpgsql as $$
begin
    raise exception 'a pair goes back' using errcode = 'KB002';
end $$;
create trigger forward_only after update on keybaton.pair
    for each row when (new.rev < old.rev or new.epoch < old.epoch or new.touched <= old.touched)
    execute function keybaton.forward_only();

-- Nothing leaves REVOKED or GONE, and a claim is never given up.
create function keybaton.claims_stay() returns trigger language plpgsql as $$
begin
    if old.status in ('REVOKED', 'GONE') and new.status <> old.status then
        raise exception 'a version that had ended comes back' using errcode = 'KB003';
    end if;
    if (old.provider_key_id is not null and new.provider_key_id is distinct from old.provider_key_id)
        or (old.fp is not null and new.fp is distinct from old.fp) then
        raise exception 'a version changes its key' using errcode = 'KB003';
    end if;
    return new;
end $$;
create trigger claims_stay before update on keybaton.version
    for each row execute function keybaton.claims_stay();
