//! What the store says about itself: schema, id, deployment, and proof that the master key fits.
//!
//! Schema and store id stand readable, so that a newer store and a wrong key can be told apart
//! before anything is opened.

use std::path::Path;

use keybaton_messages::DeploymentId;
use keybaton_ports::Entropy;
use serde::{Deserialize, Serialize};

use crate::limits::CLOCK_LAG_MAX_MS;
use crate::store::database::{Database, Failure};
use crate::store::{
    Broken, DataDir, Down, Fault, MasterKey, OpenError, Place, Reader, Rows, Sealer, SystemEntropy,
    Table, Tables, Whose,
};

/// The schema of the whole store; higher ones are refused, lower ones raised. 2: entries lie in segments,
/// and a lone row as in 1.
const STORE_SCHEMA: u32 = 2;

const SCHEMA: &[u8] = b"schema";
const STORE_ID: &[u8] = b"store_id";
const CHECK: &[u8] = b"check";
const TIME: &[u8] = b"time";

const CHECK_SCHEMA: u16 = 1;
const TIME_SCHEMA: u16 = 1;

/// Sealed: opens only with the right master key.
#[derive(Serialize, Deserialize)]
struct Check {
    deployment: DeploymentId,
}

/// An opened store's identity.
pub(crate) struct Identity {
    pub(crate) sealer: Sealer,
    pub(crate) deployment: DeploymentId,
    /// The stored high-water mark of the clock, milliseconds since the epoch.
    pub(crate) time: u64,
}

/// Reads who the store is, or makes it somebody if it is blank.
pub(crate) fn identify(
    dir: &mut DataDir,
    database: &Database,
    master: MasterKey,
) -> Result<Identity, OpenError> {
    let path = dir.database();
    let (is_blank, raw) = database
        .read(|reader| Ok((reader.is_blank()?, Raw::read(reader)?)))
        .map_err(|down| unreadable(&path, &down))?;
    if !is_blank {
        let (identity, schema) = raw.identify(dir.path(), &path, master)?;
        if schema < STORE_SCHEMA {
            raise_schema(&path, database)?;
        }
        return Ok(identity);
    }
    if dir.is_marked() {
        return Err(OpenError::corrupt(&path, "the database is empty"));
    }
    found(dir, database, master)
}

/// Founds a store: every table, its identity, then the mark beside the lock.
fn found(dir: &mut DataDir, database: &Database, master: MasterKey) -> Result<Identity, OpenError> {
    let store_id = SystemEntropy.bytes16();
    let sealer = Sealer::new(master, store_id);
    let deployment = DeploymentId::from_digest(&SystemEntropy.bytes16());
    let check = Check { deployment: deployment.clone() };
    let sealed = sealer
        .seal_value(Whose::Store, &place(CHECK, CHECK_SCHEMA), &check)
        .expect("a deployment id is short");
    let written = database.write(|tables| {
        tables.create_all()?;
        tables.insert(Table::Meta, SCHEMA, &STORE_SCHEMA.to_be_bytes())?;
        tables.insert(Table::Meta, STORE_ID, &store_id)?;
        tables.insert(Table::Meta, CHECK, &sealed)
    });
    written.map_err(|failure| unwritable("write the first rows of", &dir.database(), failure))?;
    dir.mark(store_id)?;
    Ok(Identity { sealer, deployment, time: 0 })
}

/// The rows as they lie there.
struct Raw {
    schema: Option<Vec<u8>>,
    store_id: Option<Vec<u8>>,
    check: Option<Vec<u8>>,
    time: Option<Vec<u8>>,
}

impl Raw {
    fn read(reader: &mut Reader) -> Result<Self, Fault> {
        let mut get = |key| reader.get(Table::Meta, key);
        Ok(Self {
            schema: get(SCHEMA)?,
            store_id: get(STORE_ID)?,
            check: get(CHECK)?,
            time: get(TIME)?,
        })
    }

    /// Who the store is, and its schema.
    fn identify(
        self,
        dir: &Path,
        path: &Path,
        master: MasterKey,
    ) -> Result<(Identity, u32), OpenError> {
        let (Some(schema), Some(store_id), Some(check)) = (self.schema, self.store_id, self.check)
        else {
            return Err(OpenError::Foreign {
                path: path.to_owned(),
                why: "the database is another program's".into(),
            });
        };
        let damaged = |what: &str| OpenError::corrupt(path, format!("{what} is unreadable"));
        let schema =
            u32::from_be_bytes(schema.try_into().map_err(|_| damaged("its schema number"))?);
        if schema > STORE_SCHEMA {
            return Err(OpenError::NewerSchema {
                dir: dir.to_owned(),
                found: schema,
                readable: STORE_SCHEMA,
            });
        }
        let store_id = store_id.try_into().map_err(|_| damaged("its store id"))?;
        let sealer = Sealer::new(master, store_id);
        let check: Check = sealer
            .open_value(Whose::Store, &place(CHECK, CHECK_SCHEMA), &check)
            .map_err(|broken| match broken {
                Broken::Key => OpenError::WrongKey { dir: dir.to_owned() },
                other => OpenError::corrupt(path, other.to_string()),
            })?;
        let time = match self.time {
            None => 0,
            Some(bytes) => sealer
                .open_value(Whose::Store, &place(TIME, TIME_SCHEMA), &bytes)
                .map_err(|broken| OpenError::corrupt(path, broken.to_string()))?,
        };
        Ok((Identity { sealer, deployment: check.deployment, time }, schema))
    }
}

/// From here on older programs refuse the store: they would not know its rows.
fn raise_schema(path: &Path, database: &Database) -> Result<(), OpenError> {
    let written =
        database.write(|tables| tables.insert(Table::Meta, SCHEMA, &STORE_SCHEMA.to_be_bytes()));
    written.map_err(|failure| unwritable("raise the schema of", path, failure))
}

fn unwritable(doing: &'static str, path: &Path, failure: Failure) -> OpenError {
    let source = failure.fault.into_io();
    let source = source.unwrap_or_else(|fault| std::io::Error::other(fault.to_string()));
    OpenError::Io { doing, path: path.to_owned(), source }
}

/// Writes the clock's high-water mark into a batch.
pub(crate) fn write_time(
    tables: &mut Tables<'_>,
    sealer: &Sealer,
    now_ms: u64,
) -> Result<(), Fault> {
    let sealed = sealer
        .seal_value(Whose::Store, &place(TIME, TIME_SCHEMA), &now_ms)
        .expect("a number is short");
    tables.insert(Table::Meta, TIME, &sealed)
}

/// Whether the stored high-water mark lags too far behind.
pub(crate) fn is_time_stale(stored_ms: u64, now_ms: u64) -> bool {
    now_ms >= stored_ms.saturating_add(CLOCK_LAG_MAX_MS)
}

fn place(key: &'static [u8], schema: u16) -> Place<'static> {
    Place { table: Table::Meta.name(), key, clear: &[], schema }
}

fn unreadable(path: &Path, down: &Down) -> OpenError {
    match down {
        Down::Unavailable(why) | Down::Unknown(why) => OpenError::corrupt(path, why.clone()),
    }
}
