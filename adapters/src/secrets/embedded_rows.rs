//! The rows of the embedded secret store: how each is sealed, and opened again.
//!
//! A secret's plain text is `[length of meta u32] ‖ meta ‖ secret`, put together in one buffer of
//! the final size, so that no reallocation leaves a copy behind.

use keybaton_messages::{Epoch, Label, PairId, Rev, SecretVersion, Version, wire};
use keybaton_ports::{Denial, Refusal, Secret, SecretMeta, StoredSecret, Witness};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::store::{Broken, Place, Purpose, RowKey, Sealer, Table, Whose};

const SECRET_SCHEMA: u16 = 1;
const LABEL_SCHEMA: u16 = 1;
const WITNESS_SCHEMA: u16 = 2;

pub(crate) fn secret_key(pair: &PairId, version: SecretVersion) -> RowKey {
    RowKey::pair(pair).number(version.0)
}

pub(crate) fn label_key(pair: &PairId, label: &Label) -> RowKey {
    RowKey::pair(pair).bytes(label.as_str().as_bytes())
}

/// The number at the end of a secret's key.
pub(crate) fn read_number(key: &[u8]) -> SecretVersion {
    let number = key.last_chunk().map(|number| u64::from_be_bytes(*number));
    SecretVersion(number.unwrap_or_default())
}

pub(crate) fn is_counter(key: &[u8]) -> bool {
    read_number(key) == SecretVersion(0)
}

fn whose(pair: &PairId) -> Whose<'_> {
    Whose::Tenant(Purpose::Secrets, &pair.tenant)
}

fn place(table: Table, key: &[u8]) -> Place<'_> {
    let schema = match table {
        Table::Secrets => SECRET_SCHEMA,
        Table::SecretLabels => LABEL_SCHEMA,
        _ => WITNESS_SCHEMA,
    };
    Place { table: table.name(), key, clear: &[], schema }
}

/// What is sealed for one secret.
pub(crate) fn plain_of(meta: &SecretMeta, secret: &Secret) -> Result<Zeroizing<Vec<u8>>, Refusal> {
    let meta = wire::encode(SECRET_SCHEMA, meta)
        .map_err(|error| Refusal::denied(Denial::TooLarge, error.to_string()))?;
    let length = u32::try_from(meta.len())
        .map_err(|_| Refusal::denied(Denial::TooLarge, "the description is too long"))?;
    let mut plain = Zeroizing::new(Vec::with_capacity(4 + meta.len() + secret.expose().len()));
    plain.extend_from_slice(&length.to_be_bytes());
    plain.extend_from_slice(&meta);
    plain.extend_from_slice(secret.expose());
    Ok(plain)
}

pub(crate) fn seal_secret(sealer: &Sealer, pair: &PairId, key: &RowKey, plain: &[u8]) -> Vec<u8> {
    sealer.seal(whose(pair), &place(Table::Secrets, key.as_bytes()), plain)
}

pub(crate) fn open_secret(
    sealer: &Sealer,
    pair: &PairId,
    key: &[u8],
    bytes: &[u8],
) -> Result<StoredSecret, Refusal> {
    let plain = sealer.open(whose(pair), &place(Table::Secrets, key), bytes).map_err(corrupt)?;
    let plain = Zeroizing::new(plain);
    let (meta, secret) = split(&plain).ok_or_else(|| corrupt(Broken::Foreign))?;
    let meta: SecretMeta = wire::decode(SECRET_SCHEMA, meta)
        .map_err(|error| corrupt(Broken::Value(error.to_string())))?;
    if meta.pair != *pair {
        return Err(corrupt(Broken::Value("it belongs to another pair".into())));
    }
    Ok(StoredSecret { secret: Secret::new(secret.to_vec())?, meta })
}

fn split(plain: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = plain.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    rest.split_at_checked(length)
}

/// Seals a number: the counter's, or a label's.
pub(crate) fn seal_number(
    sealer: &Sealer,
    pair: &PairId,
    table: Table,
    key: &RowKey,
    number: SecretVersion,
) -> Vec<u8> {
    sealer.seal(whose(pair), &place(table, key.as_bytes()), &number.0.to_be_bytes())
}

fn open_number(
    sealer: &Sealer,
    pair: &PairId,
    table: Table,
    key: &[u8],
    bytes: &[u8],
) -> Result<SecretVersion, Refusal> {
    let plain = sealer.open(whose(pair), &place(table, key), bytes).map_err(corrupt)?;
    let number =
        plain.try_into().map_err(|_| corrupt(Broken::Value("it is not a number".into())))?;
    Ok(SecretVersion(u64::from_be_bytes(number)))
}

pub(crate) fn open_counter(
    sealer: &Sealer,
    pair: &PairId,
    key: &[u8],
    bytes: &[u8],
) -> Result<SecretVersion, Refusal> {
    open_number(sealer, pair, Table::Secrets, key, bytes)
}

pub(crate) fn open_label(
    sealer: &Sealer,
    pair: &PairId,
    key: &[u8],
    bytes: &[u8],
) -> Result<SecretVersion, Refusal> {
    open_number(sealer, pair, Table::SecretLabels, key, bytes)
}

pub(crate) fn seal_witness(sealer: &Sealer, key: &RowKey, witness: &Witness) -> Vec<u8> {
    sealer
        .seal_value(Whose::Store, &place(Table::Witnesses, key.as_bytes()), witness)
        .expect("three numbers and a name are short")
}

pub(crate) fn open_witness(sealer: &Sealer, key: &[u8], bytes: &[u8]) -> Result<Witness, Refusal> {
    let place = place(Table::Witnesses, key);
    let opened = match sealer.open_value(Whose::Store, &place, bytes) {
        Err(Broken::Schema { found: FirstWitness::SCHEMA, .. }) => {
            let place = Place { schema: FirstWitness::SCHEMA, ..place };
            let first: Result<FirstWitness, _> = sealer.open_value(Whose::Store, &place, bytes);
            first.map(Witness::from)
        }
        opened => opened,
    };
    opened.map_err(corrupt)
}

/// A witness as it was written before it named its journal.
#[derive(Serialize, Deserialize)]
struct FirstWitness {
    rev: Rev,
    epoch: Epoch,
    active: Option<Version>,
}

impl FirstWitness {
    const SCHEMA: u16 = 1;
}

impl From<FirstWitness> for Witness {
    fn from(FirstWitness { rev, epoch, active }: FirstWitness) -> Self {
        Self { rev, epoch, active, journal: None }
    }
}

fn corrupt(broken: Broken) -> Refusal {
    Refusal::denied(Denial::Corrupt, format!("secret store: {broken}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MasterKey;

    #[test]
    fn a_witness_that_names_no_journal_is_still_read() {
        let sealer = Sealer::new(MasterKey::from_bytes([7; 32]), [1; 16]);
        let pair = PairId::new("acme".parse().expect("a name"), "openai".parse().expect("a name"));
        let key = RowKey::pair(&pair);
        let (rev, epoch, active) = (Rev(30), Epoch(3), Some(Version(7)));
        let first = FirstWitness { rev, epoch, active };
        let schema = FirstWitness::SCHEMA;
        let place = Place { schema, ..place(Table::Witnesses, key.as_bytes()) };
        let sealed = sealer.seal_value(Whose::Store, &place, &first).expect("short");
        let opened = open_witness(&sealer, key.as_bytes(), &sealed);
        assert_eq!(opened, Ok(Witness { rev, epoch, active, journal: None }));
        // What is written anew says more, and is read as it was written.
        let journal = keybaton_ports::Generation::parse("abcdefg2");
        let next = Witness { rev, epoch, active, journal };
        let sealed = seal_witness(&sealer, &key, &next);
        assert_eq!(open_witness(&sealer, key.as_bytes(), &sealed), Ok(next));
    }
}
