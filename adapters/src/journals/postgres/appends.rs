//! Entries of all tasks that wait, appended by one statement (`keybaton.append`, in the migrations).
//!
//! Each entry is compared and written for itself, whatever becomes of the others. Nobody waits for
//! the row of somebody else's task: what the statement leaves out, whoever asked for it appends
//! alone, and waits, or learns why.

use std::sync::Arc;

use keybaton_messages::{TaskEpoch, TaskKey};
use tokio_postgres::Row;

use crate::journals::postgres::rows::{signed, unsigned};
use crate::journals::tasks::rows::Kind;
use crate::limits::POSTGRES_BATCH_MAX;
use crate::postgres::{Pool, Unwritten, Value};
use crate::queue::Writer;
use crate::store::Down;

const APPEND: &str =
    "select place, behind from keybaton.append($1, $2, $3, $4, $5, $6, $7, $8, $9)";

/// The same for one entry: half the work for the server.
const APPEND_ONE: &str = "with held as (
        select ctid as at from keybaton.task
        where tenant = $1 and task = $2 and epoch = $3 and rev = $4 and born = $5
        for update skip locked),
    moved as (
        update keybaton.task t set rev = rev + 1,
            checkpoint = case when $7 then rev else checkpoint end,
            state = case when $8 then rev else state end,
            has_ended = case when $8 then $9 else has_ended end
        from held where t.ctid = held.at
        returning checkpoint - tail as behind),
    written as (
        insert into keybaton.task_entry (tenant, task, idx, body) select $1, $2, $4, $6 from moved)
    select 1::bigint, behind from moved";

/// Waits for whoever holds the task's row.
const APPEND_ALONE: &str = "with moved as (
        update keybaton.task set rev = rev + 1,
            checkpoint = case when $7 then rev else checkpoint end,
            state = case when $8 then rev else state end,
            has_ended = case when $8 then $9 else has_ended end
        where tenant = $1 and task = $2 and epoch = $3 and rev = $4 and born = $5
        returning checkpoint - tail as behind),
    written as (
        insert into keybaton.task_entry (tenant, task, idx, body) select $1, $2, $4, $6 from moved)
    select 1::bigint, behind from moved";

/// An entry, and how its task must stand.
pub(super) struct Append {
    pub(super) key: TaskKey,
    pub(super) epoch: TaskEpoch,
    /// Entries written so far, and so the number of this one.
    pub(super) expect: u64,
    pub(super) born: u64,
    pub(super) kind: Kind,
    /// Sealed.
    pub(super) body: Vec<u8>,
}

/// What became of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Appended {
    /// It is durable. So many entries are kept before the task's newest checkpoint.
    Written { behind: u64 },
    /// Not written, for a reason of its own or of another one's.
    LeftOut,
}

/// Appends for everybody.
pub(super) struct Appends(pub(super) Arc<Pool>);

impl Writer for Appends {
    const NAME: &'static str = "postgres";
    const BATCH_MAX: usize = POSTGRES_BATCH_MAX;
    type Op = Append;
    type Key = TaskKey;
    type Answer = Result<Appended, Down>;

    fn key(append: &Append) -> &TaskKey {
        &append.key
    }

    fn bytes(append: &Append) -> usize {
        append.body.len()
    }

    async fn carry_out(&self, appends: &[&Append]) -> Vec<Self::Answer> {
        let rows = match appends {
            [one] => one_by(&self.0, APPEND_ONE, one).await,
            many => self.many(many).await,
        };
        let mut answers = vec![Ok(Appended::LeftOut); appends.len()];
        match rows {
            Ok(rows) => rows.iter().map(written).for_each(|(place, appended)| {
                if let Some(answer) = answers.get_mut(place) {
                    *answer = Ok(appended);
                }
            }),
            // Because of one of them, nobody knows which.
            Err(Unwritten::Refused(why)) => tracing::debug!(why, "steps are written one by one"),
            Err(Unwritten::Down(down)) => answers.fill(Err(down)),
        }
        answers
    }
}

impl Appends {
    /// Appends an entry that was left out.
    pub(super) async fn alone(&self, append: &Append) -> Result<Appended, Down> {
        let rows = one_by(&self.0, APPEND_ALONE, append).await?;
        Ok(rows.first().map_or(Appended::LeftOut, |row| written(row).1))
    }

    async fn many(&self, appends: &[&Append]) -> Result<Vec<Row>, Unwritten> {
        fn column<'a, T>(appends: &[&'a Append], of: impl Fn(&'a Append) -> T) -> Vec<T> {
            appends.iter().map(|append| of(append)).collect()
        }
        let lives = column(appends, |append| append.born.to_be_bytes());
        let values: [Value<'_>; 9] = [
            &column(appends, |append| append.key.tenant.as_str()),
            &column(appends, |append| append.key.task.as_str()),
            &column(appends, |append| signed(append.epoch.0)),
            &column(appends, |append| signed(append.expect)),
            &lives.iter().map(|life| &life[..]).collect::<Vec<_>>(),
            &column(appends, |append| &append.body[..]),
            &column(appends, |append| append.kind.is_checkpoint()),
            &column(appends, |append| append.kind.is_state()),
            &column(appends, |append| append.kind == Kind::Ended),
        ];
        self.0.write(APPEND, &values).await
    }
}

async fn one_by(pool: &Pool, sql: &str, append: &Append) -> Result<Vec<Row>, Unwritten> {
    let values: [Value<'_>; 9] = [
        &append.key.tenant.as_str(),
        &append.key.task.as_str(),
        &signed(append.epoch.0),
        &signed(append.expect),
        &&append.born.to_be_bytes()[..],
        &append.body,
        &append.kind.is_checkpoint(),
        &append.kind.is_state(),
        &(append.kind == Kind::Ended),
    ];
    pool.write(sql, &values).await
}

/// The place of an entry that was written, from 0, and how.
fn written(row: &Row) -> (usize, Appended) {
    // From 1, as arrays count there.
    let place = unsigned(row.get(0)).saturating_sub(1);
    let behind = row.get::<_, Option<i64>>(1).map_or(0, unsigned);
    (usize::try_from(place).unwrap_or(usize::MAX), Appended::Written { behind })
}
