//! The tenants' partitions: made on first use, reached by nobody but the tenant's role.
//!
//! What is to be put and deleted at the same time is put and deleted by one statement
//! (`keybaton.change_checkpoints`, in the migrations), which takes on one tenant's role after the other.
//! What stands in its way is said of nobody in particular: whoever asked tries again alone.

use std::sync::Arc;

use dashmap::DashSet;
use data_encoding::HEXLOWER;
use futures::try_join;
use keybaton_messages::TenantId;
use keybaton_ports::Refusal;
use sha2::{Digest, Sha256};
use tokio_postgres::Row;

use crate::limits::POSTGRES_BATCH_MAX;
use crate::postgres::{Pool, Unwritten, Value, discard, written};
use crate::queue::Writer;
use crate::store::Down;

const CHANGE: &str = "select from keybaton.change_checkpoints($1, $2, $3, $4, $5)";

/// A checkpoint that comes, or goes.
#[derive(Clone)]
pub(super) struct Change {
    pub(super) tenant: TenantId,
    /// Path below the tenant.
    pub(super) key: String,
    /// Sealed; none: it is deleted.
    pub(super) body: Option<Arc<[u8]>>,
}

/// What became of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Changed {
    /// It is durable.
    Done,
    /// It was not made, for a reason of its own or of another one's.
    LeftOut,
}

/// The partitions of one database.
pub(super) struct Partitions {
    pool: Arc<Pool>,
    store_id: [u8; 16],
    /// Tenants whose partition is there.
    known: DashSet<TenantId>,
}

impl Partitions {
    pub(super) fn new(pool: Arc<Pool>, store_id: [u8; 16]) -> Self {
        Self { pool, store_id, known: DashSet::new() }
    }

    /// What the tenant's partition and role are called. Tenants' names are longer than names in
    /// Postgres may be, and roles belong to the whole server.
    fn suffix(&self, tenant: &TenantId) -> String {
        let digest = Sha256::new()
            .chain_update(self.store_id)
            .chain_update(tenant.as_str().as_bytes())
            .finalize();
        HEXLOWER.encode(&digest[..16])
    }

    /// Makes the tenant's partition and role if they are not there.
    pub(super) async fn prepare(&self, tenant: &TenantId) -> Result<(), Refusal> {
        if self.known.contains(tenant) {
            return Ok(());
        }
        let sql = partition_of(tenant, &self.suffix(tenant));
        let client = self.pool.take().await?;
        match self.pool.in_time(client.batch_execute(&sql)).await {
            Some(Ok(())) => {
                self.known.insert(tenant.clone());
                Ok(())
            }
            Some(Err(error)) => {
                discard(client);
                // What is there already is found so at the next try.
                Err(written(&error).into())
            }
            None => {
                discard(client);
                Err(Refusal::unknown(self.pool.silence()))
            }
        }
    }

    /// Whether anything was ever put for the tenant.
    pub(super) async fn exists(&self, tenant: &TenantId) -> Result<bool, Refusal> {
        if self.known.contains(tenant) {
            return Ok(true);
        }
        let name = format!("keybaton.checkpoint_{}", self.suffix(tenant));
        let found = self.pool.read(async |client| {
            client.query_one("select to_regclass($1) is not null", &[&name]).await
        });
        Ok(found.await?.get(0))
    }

    /// Reads as the tenant. `{}` in the statement stands for the tenant's partition.
    pub(super) async fn read(
        &self,
        tenant: &TenantId,
        sql: &str,
        values: &[Value<'_>],
    ) -> Result<Vec<Row>, Down> {
        let suffix = self.suffix(tenant);
        let sql = sql.replace("{}", &format!("keybaton.checkpoint_{suffix}"));
        let role = format!("set local role keybaton_{suffix}");
        let rows = self.pool.read(async |client| {
            let statement = client.prepare_cached(&sql).await?;
            let (_, _, rows, _) = try_join!(
                client.batch_execute("begin read only"),
                client.batch_execute(&role),
                client.query(&statement, values),
                client.batch_execute("commit"),
            )?;
            Ok(rows)
        });
        rows.await
    }

    /// Makes a change by itself.
    pub(super) async fn alone(&self, change: &Change) -> Result<(), Down> {
        Ok(self.together(&[change], true).await?)
    }

    async fn together(&self, changes: &[&Change], waits: bool) -> Result<(), Unwritten> {
        let suffixes: Vec<_> = changes.iter().map(|change| self.suffix(&change.tenant)).collect();
        let tenants: Vec<_> = changes.iter().map(|change| change.tenant.as_str()).collect();
        let keys: Vec<_> = changes.iter().map(|change| &change.key).collect();
        let bodies: Vec<_> = changes.iter().map(|change| change.body.as_deref()).collect();
        self.pool.write(CHANGE, &[&suffixes, &tenants, &keys, &bodies, &waits]).await.map(drop)
    }
}

impl Writer for Partitions {
    const NAME: &'static str = "postgres";
    const BATCH_MAX: usize = POSTGRES_BATCH_MAX;
    type Op = Change;
    type Key = String;
    type Answer = Result<Changed, Down>;

    fn key(change: &Change) -> &String {
        &change.key
    }

    fn bytes(change: &Change) -> usize {
        change.body.as_ref().map_or(0, |body| body.len())
    }

    async fn carry_out(&self, changes: &[&Change]) -> Vec<Self::Answer> {
        let answer = match self.together(changes, false).await {
            Ok(()) => Ok(Changed::Done),
            Err(Unwritten::Refused(why)) => {
                tracing::debug!(why, "checkpoints are written one by one");
                Ok(Changed::LeftOut)
            }
            Err(Unwritten::Down(down)) => Err(down),
        };
        vec![answer; changes.len()]
    }
}

/// What makes a tenant's partition, once, whoever is first. Nothing happens if it is there.
fn partition_of(tenant: &TenantId, suffix: &str) -> String {
    // A policy for a role is one for its members too, and keybaton's user is a member of all: hence
    // the comparison with the present user. Checked names hold no quote; it is doubled all the same.
    let name = tenant.as_str().replace('\'', "''");
    format!(
        "begin;
        select pg_advisory_xact_lock(hashtextextended('keybaton_{suffix}', 0));
        do $make$ begin
            if exists (select from pg_tables
                    where schemaname = 'keybaton' and tablename = 'checkpoint_{suffix}')
                and exists (select from pg_roles where rolname = 'keybaton_{suffix}') then
                return;
            end if;
            create table if not exists keybaton.checkpoint_{suffix}
                partition of keybaton.checkpoint for values in ('{name}');
            alter table keybaton.checkpoint_{suffix} enable row level security;
            alter table keybaton.checkpoint_{suffix} force row level security;
            if not exists (select from pg_roles where rolname = 'keybaton_{suffix}') then
                create role keybaton_{suffix} nologin;
            end if;
            grant keybaton_{suffix} to current_user;
            grant usage on schema keybaton to keybaton_{suffix};
            grant select, insert, delete on keybaton.checkpoint_{suffix} to keybaton_{suffix};
            drop policy if exists own_tenant on keybaton.checkpoint_{suffix};
            create policy own_tenant on keybaton.checkpoint_{suffix} to keybaton_{suffix}
                using (tenant = '{name}' and current_user = 'keybaton_{suffix}')
                with check (tenant = '{name}' and current_user = 'keybaton_{suffix}');
        end $make$;
        commit"
    )
}
