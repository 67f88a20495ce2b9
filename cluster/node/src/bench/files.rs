//! The raw data: a row for each rotation, for each task that moved and for each count of holders,
//! and histograms that other tools read.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, anyhow};
use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2Serializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};

use super::figures::{Figures, drain, floor, overhead, pause, revoke_lag, swap};
use super::limits::HISTOGRAM_MAX_US;
use super::sighting::Sighting;
use super::spread::{Spread, Value};
use super::times::millis;

/// Writes all of them into `out`.
///
/// # Errors
/// When a file cannot be written.
pub fn write(
    out: &Path,
    sightings: &[Sighting],
    figures: &Figures,
    began: SystemTime,
    lasted: Duration,
) -> anyhow::Result<()> {
    rotations(&out.join("rotations.csv"), sightings)?;
    tasks(&out.join("tasks.csv"), sightings)?;
    holders(&out.join("holders.csv"), sightings)?;
    for (name, spread) in figures.named() {
        let path = out.join(format!("{name}.hlog"));
        histogram(&path, name, spread, began, lasted)
            .with_context(|| format!("{} cannot be written", path.display()))?;
    }
    Ok(())
}

fn create(path: &Path) -> anyhow::Result<BufWriter<File>> {
    let file = File::create(path).with_context(|| format!("cannot make {}", path.display()))?;
    Ok(BufWriter::new(file))
}

/// A value's two columns: milliseconds, and whether it is only a lower bound.
fn cells(value: Option<Value>) -> String {
    match value {
        None => ",".to_owned(),
        Some(value) => format!("{:.3},{}", millis(value.us()), u8::from(value.is_censored())),
    }
}

/// Milliseconds of a moment.
fn moment(us: Option<u64>) -> String {
    us.map_or_else(String::new, |us| format!("{:.3}", millis(us)))
}

fn rotations(path: &Path, sightings: &[Sighting]) -> anyhow::Result<()> {
    let mut file = create(path)?;
    writeln!(
        file,
        "number,warm_up,tenant,rotation,ended,planned_ms,asked_ms,committed_ms,closed_ms,\
         emptied_ms,acknowledged_ms,looked_ms,holders_at_close,tasks,drain_ms,drain_censored,\
         floor_ms,floor_censored,overhead_ms,overhead_censored,revoke_lag_ms,revoke_lag_censored"
    )?;
    for it in sightings {
        let moments = [Some(it.planned), Some(it.asked), it.committed, it.closed, it.emptied];
        let moments = moments.into_iter().chain([it.acknowledged, Some(it.looked)]).map(moment);
        writeln!(
            file,
            "{},{},{},{},\"{}\",{},{},{},{},{},{},{}",
            it.number,
            u8::from(it.is_warm_up),
            it.tenant,
            it.rotation,
            it.ended.replace('"', "'"),
            moments.collect::<Vec<_>>().join(","),
            it.holders_at_close,
            it.tasks.len(),
            cells(drain(it)),
            cells(floor(it)),
            cells(overhead(it)),
            cells(revoke_lag(it)),
        )?;
    }
    file.flush().map_err(Into::into)
}

fn tasks(path: &Path, sightings: &[Sighting]) -> anyhow::Result<()> {
    let mut file = create(path)?;
    writeln!(
        file,
        "number,warm_up,task,keeps_key,outcome,began_ms,ended_ms,resumed_ms,swap_ms,swap_censored,\
         pause_ms,pause_censored"
    )?;
    for it in sightings {
        for task in &it.tasks {
            let outcome = match (task.is_gone, task.resumed) {
                (true, _) => "ended",
                (false, Some(_)) => "swapped",
                (false, None) => "censored",
            };
            writeln!(
                file,
                "{},{},{},{},{outcome},{},{},{},{},{}",
                it.number,
                u8::from(it.is_warm_up),
                task.task,
                u8::from(task.keeps_key),
                moment(Some(task.began)),
                moment(task.ended),
                moment(task.resumed),
                cells(swap(it, task)),
                cells(pause(it, task)),
            )?;
        }
    }
    file.flush().map_err(Into::into)
}

fn holders(path: &Path, sightings: &[Sighting]) -> anyhow::Result<()> {
    let mut file = create(path)?;
    writeln!(file, "number,at_ms,old,new")?;
    for it in sightings {
        for count in &it.curve {
            writeln!(file, "{},{},{},{}", it.number, moment(Some(count.at)), count.old, count.new)?;
        }
    }
    file.flush().map_err(Into::into)
}

/// One interval in microseconds, censored values with what was seen of them.
fn histogram(
    path: &Path,
    name: &str,
    spread: &Spread,
    began: SystemTime,
    lasted: Duration,
) -> anyhow::Result<()> {
    let mut histogram = Histogram::<u64>::new_with_max(HISTOGRAM_MAX_US, 3)?;
    for value in spread.values() {
        histogram.saturating_record(value.us());
    }
    let mut file = create(path)?;
    let mut serializer = V2Serializer::new();
    let mut log = IntervalLogWriterBuilder::new()
        .add_comment(&format!("{name} in microseconds; {} values are censored", spread.censored()))
        .with_start_time(began)
        .with_base_time(began)
        .with_max_value_divisor(1000.0)
        .begin_log_with(&mut file, &mut serializer)?;
    log.write_histogram(&histogram, Duration::ZERO, lasted, Tag::new(name))
        .map_err(|fault| anyhow!("{fault}"))?;
    file.flush().map_err(Into::into)
}

#[cfg(test)]
mod tests {
    use hdrhistogram::serialization::Deserializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    use super::super::sighting::{Count, TaskSighting};
    use super::*;

    #[test]
    fn the_raw_data_says_what_was_seen_and_the_histograms_can_be_read_back() {
        let out = tempfile::tempdir().expect("a directory");
        let task = |task, resumed| TaskSighting {
            task,
            keeps_key: true,
            began: 100,
            ended: Some(3000),
            resumed,
            is_gone: false,
        };
        let it = Sighting {
            number: 4,
            tenant: "tenant-00000".into(),
            rotation: "tenant-00000/openai#2".into(),
            committed: Some(1000),
            closed: Some(1010),
            emptied: Some(3500),
            looked: 9000,
            ended: "not ended".into(),
            tasks: vec![task(1, Some(3250)), task(2, None)],
            curve: vec![Count { at: 1020, old: 2, new: 0 }],
            ..Sighting::default()
        };
        let figures = Figures::of(std::slice::from_ref(&it));
        write(out.path(), &[it], &figures, SystemTime::UNIX_EPOCH, Duration::from_secs(3))
            .expect("written");
        let read = |name: &str| std::fs::read_to_string(out.path().join(name)).expect("a file");
        let (rotations, tasks) = (read("rotations.csv"), read("tasks.csv"));
        let row = rotations.lines().nth(1).expect("a row");
        assert_eq!(
            row.split(',').count(),
            rotations.lines().next().expect("a head").split(',').count()
        );
        assert!(row.ends_with("2.500,0,1.990,0,0.510,0,5.500,1"), "{row}");
        assert_eq!(tasks.lines().nth(1), Some("4,0,1,1,swapped,0.100,3.000,3.250,2.250,0,0.250,0"));
        assert_eq!(tasks.lines().nth(2), Some("4,0,2,1,censored,0.100,3.000,,8.000,1,6.000,1"));
        assert_eq!(read("holders.csv").lines().nth(1), Some("4,1.020,2,0"));
        let log = std::fs::read(out.path().join("pause.hlog")).expect("a log");
        let entries: Vec<_> =
            IntervalLogIterator::new(&log).map(|it| it.expect("an entry")).collect();
        let encoded = entries.iter().find_map(|entry| match entry {
            LogEntry::Interval(interval) => Some(interval.encoded_histogram()),
            _ => None,
        });
        let bytes = data_encoding::BASE64.decode(encoded.expect("one").as_bytes()).expect("base64");
        let read: Histogram<u64> =
            Deserializer::new().deserialize(&mut bytes.as_slice()).expect("a histogram");
        assert_eq!((read.len(), read.max() / 10), (2, 600));
    }
}
