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
