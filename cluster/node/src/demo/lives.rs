//! When earlier processes on this directory were killed, so that the judge can count the calls
//! that died with them apart.
//!
//! A living process touches a file several times a second; the last touch of a process that did
//! not say goodbye is, within the judge's slack, the moment of its death.

use std::fs::{File, FileTimes, OpenOptions};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use keybaton_oracle::Kill;

const TOUCH_EVERY: Duration = Duration::from_millis(100);

/// This process's life on the directory.
pub struct Life {
    touching: tokio::task::JoinHandle<()>,
    alive: PathBuf,
    /// Deaths of earlier processes.
    pub kills: Vec<Kill>,
}

impl Life {
    /// Begins a life: an earlier one that did not end by itself was killed.
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub fn begin(dir: &Path) -> anyhow::Result<Self> {
        let (alive, deaths) = (dir.join("demo.alive"), dir.join("demo.kills.json"));
        let mut kills: Vec<Kill> = match std::fs::read(&deaths) {
            Ok(bytes) => serde_json::from_slice(&bytes)?,
            Err(_) => Vec::new(),
        };
        if let Ok(metadata) = std::fs::metadata(&alive) {
            let at = metadata.modified()?.duration_since(UNIX_EPOCH)?;
            kills.push(Kill { at_us: u64::try_from(at.as_micros())? });
            std::fs::write(&deaths, serde_json::to_vec(&kills)?)?;
        }
        let file = OpenOptions::new().create(true).append(true).open(&alive)?;
        file.set_times(FileTimes::new().set_modified(SystemTime::now()))?;
        let touching = tokio::spawn(touch(file));
        Ok(Self { touching, alive, kills })
    }

    /// Ends this life: it was not a kill.
    pub fn end(self) {
        self.touching.abort();
        // Left behind, it would only excuse calls around this moment.
        let _ = std::fs::remove_file(&self.alive);
    }
}

async fn touch(file: File) {
    let mut ticks = tokio::time::interval(TOUCH_EVERY);
    loop {
        ticks.tick().await;
        if file.set_times(FileTimes::new().set_modified(SystemTime::now())).is_err() {
            return;
        }
    }
}
