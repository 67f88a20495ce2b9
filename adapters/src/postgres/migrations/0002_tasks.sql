-- Tasks and the entries of their steps.

create table keybaton.task (
    tenant text collate "C" not null,
    task text collate "C" not null,
    -- Names this life of the task in its entries.
    born bytea not null check (octet_length(born) = 8),
    epoch bigint not null default 0 check (epoch >= 0),
    -- Entries written so far.
    rev bigint not null default 0 check (rev >= 0),
    -- The oldest entry that is kept, besides the one that tells the state.
    tail bigint not null default 0,
    -- Numbers of the newest checkpoint and of the newest change of state.
    checkpoint bigint,
    state bigint,
    has_ended boolean not null default false,
    -- Sealed: what the task is.
    spec bytea not null,
    primary key (tenant, task)
);

create table keybaton.task_entry (
    tenant text collate "C" not null,
    task text collate "C" not null,
    idx bigint not null check (idx >= 0),
    -- Sealed, bound to its number, its epoch and this life of the task.
    body bytea not null,
    primary key (tenant, task, idx),
    foreign key (tenant, task) references keybaton.task on delete cascade
);
-- Sealed bytes do not shrink.
alter table keybaton.task alter column spec set storage external;
alter table keybaton.task_entry alter column body set storage external;
