//! The stores: each one opened for keybaton, and beside it without keybaton.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use keybaton_adapters::buses::RedisSettings;
use keybaton_adapters::journals::{AcceptedLoss, RedisJournalSettings, RedisStore};
use keybaton_adapters::postgres::PostgresSettings;
use keybaton_adapters::store::MasterKey;
use keybaton_adapters::{Embedded, Options};
use keybaton_ports::{Journal, Secret, TaskJournal};
use keybaton_servers::postgres::{ADMIN, DATABASE};
use keybaton_servers::redis::{ADMIN as ADMIN_OF_REDIS, Flavour};
use keybaton_servers::{Postgres, Redis, RedisConfig};
use tokio_postgres::types::ToSql;

use crate::journals::commits::{self, SLICE};
use crate::stage::{Bare, Scratch, refuse_memory};

/// A store that can hold the journal.
#[derive(Clone, Copy)]
pub(super) enum Store {
    Embedded,
    Postgres,
    Redis,
    Valkey,
}

impl Store {
    pub(super) const ALL: [Self; 4] = [Self::Embedded, Self::Postgres, Self::Redis, Self::Valkey];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Postgres => "postgres",
            Self::Redis => "redis",
            Self::Valkey => "valkey",
        }
    }
}

/// An opened store.
pub(super) struct Place {
    pub(super) journal: Arc<dyn Journal>,
    pub(super) tasks: Arc<dyn TaskJournal>,
    pub(super) raw: Raw,
}

/// The store without keybaton. What it lies on goes when it is dropped.
pub(super) enum Raw {
    Embedded { bare: Bare, _scratch: Scratch },
    Postgres { rows: RawRows, server: Postgres },
    Redis { rows: RawFields, server: Redis },
}

/// Pairs that are in a store before anything is measured, and rows without keybaton: in a table of a
/// few hundred, reading all of it is as good as looking for the right ones.
const STORED: usize = 10_000;

fn key() -> MasterKey {
    MasterKey::from_bytes([7; 32])
}

/// A Postgres, and how keybaton reaches it.
pub(super) fn postgres() -> anyhow::Result<(Postgres, PostgresSettings)> {
    let server = Postgres::start()?;
    refuse_memory(server.server().directory())?;
    let mut settings = PostgresSettings::new(server.url(ADMIN, DATABASE));
    settings.password_file = Some(server.password_file().to_owned());
    Ok((server, settings))
}

/// A Redis or a Valkey, and how keybaton keeps its journal there.
pub(super) fn redis(flavour: Flavour) -> anyhow::Result<(Redis, RedisJournalSettings)> {
    let server = Redis::start(RedisConfig { flavour, ..RedisConfig::default() })?;
    refuse_memory(server.server().directory())?;
    let password = Secret::new(server.admin_password().into())
        .map_err(|_| anyhow::anyhow!("the server has no password"))?;
    let url = format!("redis://127.0.0.1:{}", server.port());
    let server_settings = RedisSettings::new(&url)?.user(ADMIN_OF_REDIS, password);
    let settings = RedisJournalSettings {
        accepted_loss: AcceptedLoss::Failover,
        ..RedisJournalSettings::new(server_settings)
    };
    Ok((server, settings))
}

/// Rows in Postgres under the names of pairs, compared and set as cheaply as that can be done: looked
/// up by one prepared statement that is a transaction of its own.
pub(super) struct RawRows {
    client: tokio_postgres::Client,
    update: tokio_postgres::Statement,
    rev: i64,
}

impl RawRows {
    pub(super) async fn on(server: &Postgres) -> anyhow::Result<Self> {
        let mut config: tokio_postgres::Config = server.url(ADMIN, DATABASE).parse()?;
        config.password(server.password());
        let (client, connection) = config.connect(tokio_postgres::NoTls).await?;
        // It ends with the client.
        tokio::spawn(async move { drop(connection.await) });
        let make = format!(
            "create table raw (tenant text collate \"C\", provider text collate \"C\",
                rev bigint not null, body bytea not null, primary key (tenant, provider));
            insert into raw select 'tenant-' || n, 'openai', 0, ''
                from generate_series(0, {STORED} - 1) n;
            analyze raw;
            set enable_seqscan = off; set enable_hashjoin = off; set enable_mergejoin = off"
        );
        client.batch_execute(&make).await?;
        let update = "update raw set rev = raw.rev + 1, body = asked.body
            from unnest($1::text[], $2::text[], $3::bytea[]) asked(tenant, provider, body)
            where raw.tenant = asked.tenant and raw.provider = asked.provider and raw.rev = $4";
        let update = client.prepare(update).await?;
        Ok(Self { client, update, rev: 0 })
    }

    /// Writes so many of them in one durable transaction, always the same ones.
    pub(super) async fn write(&mut self, rows: usize, value: &[u8]) -> anyhow::Result<()> {
        let tenants: Vec<_> = (0..rows).map(|n| format!("tenant-{n}")).collect();
        let (providers, values) = (vec!["openai"; rows], vec![value; rows]);
        let asked: [&(dyn ToSql + Sync); 4] = [&tenants, &providers, &values, &self.rev];
        let written = self.client.execute(&self.update, &asked).await?;
        anyhow::ensure!(
            written == u64::try_from(rows)?,
            "{written} of {rows} rows were as expected"
        );
        self.rev += 1;
        Ok(())
    }
}

/// Fields in Redis under the names of pairs, set without a look at what stood there.
pub(super) struct RawFields {
    connection: ::redis::aio::MultiplexedConnection,
    /// Whether the server can say that something is on its disk: keybaton asks it then.
    confirms: bool,
}

impl RawFields {
    async fn on(mut connection: ::redis::aio::MultiplexedConnection) -> anyhow::Result<Self> {
        let confirms = confirmation().exec_async(&mut connection).await.is_ok();
        let mut fields = Self { connection, confirms };
        fields.write(STORED, b"-").await?;
        Ok(fields)
    }

    /// Writes so many of them with one sync, always the same ones.
    async fn write(&mut self, rows: usize, value: &[u8]) -> anyhow::Result<()> {
        let mut pipeline = ::redis::pipe();
        for number in 0..rows {
            let name = format!("tenant-{number}/openai");
            pipeline.cmd("HSET").arg("raw").arg(name).arg(value).ignore();
        }
        if self.confirms {
            pipeline.add_command(confirmation());
        }
        pipeline.exec_async(&mut self.connection).await?;
        Ok(())
    }
}

/// Longest wait of a server for its own disk, in milliseconds: beyond it there is nothing to measure.
const CONFIRM_MS_MAX: u64 = 10_000;

/// On this server's own disk, and on no replica's.
fn confirmation() -> ::redis::Cmd {
    ::redis::cmd("WAITAOF").arg(1).arg(0).arg(CONFIRM_MS_MAX).to_owned()
}

impl Place {
    pub(super) async fn open(store: Store) -> anyhow::Result<Self> {
        match store {
            Store::Embedded => Self::embedded().await,
            Store::Postgres => Self::postgres().await,
            Store::Redis => Self::redis(Flavour::Redis).await,
            Store::Valkey => Self::redis(Flavour::Valkey).await,
        }
    }

    async fn embedded() -> anyhow::Result<Self> {
        let scratch = Scratch::new()?;
        let journal = Embedded::open(&scratch.path().join("node"), key(), &Options::default())?;
        let of_pairs: Arc<dyn Journal> = journal.journal.clone();
        commits::fill(&of_pairs, STORED).await?;
        let bare = Bare::create(scratch.path())?;
        Ok(Self {
            journal: of_pairs,
            tasks: journal.tasks.clone(),
            raw: Raw::Embedded { bare, _scratch: scratch },
        })
    }

    async fn postgres() -> anyhow::Result<Self> {
        let (server, settings) = postgres()?;
        let store = keybaton_adapters::postgres::Postgres::open(&settings, key()).await?;
        commits::fill(&store.journal, STORED).await?;
        let rows = RawRows::on(&server).await?;
        let raw = Raw::Postgres { rows, server };
        Ok(Self { journal: store.journal, tasks: store.tasks, raw })
    }

    async fn redis(flavour: Flavour) -> anyhow::Result<Self> {
        let (server, settings) = redis(flavour)?;
        let store = RedisStore::open(&settings, key()).await?;
        commits::fill(&store.journal, STORED).await?;
        let client = ::redis::Client::open(format!(
            "redis://{}:{}@127.0.0.1:{}",
            ADMIN_OF_REDIS,
            server.admin_password(),
            server.port()
        ))?;
        let connection = client.get_multiplexed_async_connection().await?;
        let raw = Raw::Redis { rows: RawFields::on(connection).await?, server };
        Ok(Self { journal: store.journal, tasks: store.tasks, raw })
    }
}

impl Raw {
    /// Rows in a second, so many with one sync.
    pub(super) async fn rows_per_second(
        &mut self,
        rows: usize,
        value: &[u8],
    ) -> anyhow::Result<f64> {
        let begun = Instant::now();
        let mut done = 0;
        while begun.elapsed() < SLICE {
            self.batch(rows, value).await.context("writing rows without keybaton")?;
            done += rows;
        }
        Ok(done as f64 / begun.elapsed().as_secs_f64())
    }

    /// Time on processors that the server has used so far; none where there is no server.
    pub(super) fn server_time(&self) -> anyhow::Result<Option<Duration>> {
        Ok(match self {
            Self::Embedded { .. } => None,
            Self::Postgres { server, .. } => Some(server.server().processor_time()?),
            Self::Redis { server, .. } => Some(server.server().processor_time()?),
        })
    }

    async fn batch(&mut self, rows: usize, value: &[u8]) -> anyhow::Result<()> {
        match self {
            Self::Embedded { bare, .. } => bare.commit(rows, value).map(drop),
            Self::Postgres { rows: raw, .. } => raw.write(rows, value).await,
            Self::Redis { rows: raw, .. } => raw.write(rows, value).await,
        }
    }
}
