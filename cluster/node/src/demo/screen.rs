//! What is seen while the demo runs: phases as they come, holders counting down, what is awaited.
//!
//! On a terminal the lines move; elsewhere a plain line is written whenever something changed.

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use keybaton::Node;
use keybaton::messages::{PairId, Version};
use keybaton_actors::shared::Shared;
use keybaton_ports::TaskState;
use keybaton_rotation::{PairRecord, explain};
use parking_lot::Mutex;

use super::options::Output;
use super::report::{note, phase_name};
use super::stage::{Place, Plan, SCALE, TENANTS};

const REDRAW_EVERY: Duration = Duration::from_millis(100);

/// Where the demo shows itself: always on standard error, so that standard output is the result.
pub struct Screen {
    style: Style,
    follower: Mutex<Option<tokio::task::JoinHandle<()>>>,
}

#[derive(Clone)]
enum Style {
    Moving(Arc<MultiProgress>),
    Plain,
}

impl Screen {
    /// Moving lines on a terminal, plain ones elsewhere.
    pub fn open(output: Output) -> Self {
        let moving = output == Output::Text && std::io::stderr().is_terminal();
        let style =
            if moving { Style::Moving(Arc::new(MultiProgress::new())) } else { Style::Plain };
        Self { style, follower: Mutex::default() }
    }

    /// One line that stays.
    pub fn say(&self, line: &str) {
        self.style.say(line);
    }

    /// What will be shown.
    pub fn opening(&self, plan: &Plan, place: &Place, node: &Node, goes_on: bool) {
        let begin = if goes_on { "going on with" } else { "starting" };
        self.say(&format!(
            "{begin} {} agents of {} tenants on a node in {}",
            plan.tasks,
            TENANTS.len(),
            place.path().display()
        ));
        let stores = node.stores();
        self.say(&format!("journal: {}", stores.journal));
        if let Some(loss) = &stores.journal_may_lose {
            self.say(&format!("journal is {loss}"));
        }
        self.say(&format!("secrets: {}; events: {}", stores.secrets, stores.bus));
        self.say(&format!(
            "rotating the key of {:?}; real waits are scaled 1:{SCALE} (overlap 5 s for 5 min)",
            TENANTS[0]
        ));
    }

    /// Follows the pair until [`Screen::closing`].
    pub fn follow(&self, node: &Node, pair: &PairId, old: Option<Version>, tasks: usize) {
        let watch = Watch {
            shared: node.shared().clone(),
            pair: pair.clone(),
            old,
            tasks,
            began: Instant::now(),
        };
        let follower = tokio::spawn(follow(watch, self.style.clone()));
        if let Some(replaced) = self.follower.lock().replace(follower) {
            replaced.abort();
        }
    }

    /// Stops following.
    pub fn closing(&self) {
        if let Some(follower) = self.follower.lock().take() {
            follower.abort();
        }
        if let Style::Moving(lines) = &self.style {
            // A terminal that is gone needs no clearing.
            let _ = lines.clear();
        }
    }
}

impl Style {
    fn say(&self, line: &str) {
        match self {
            Self::Moving(lines) => {
                if lines.println(line).is_err() {
                    note(line);
                }
            }
            Self::Plain => note(line),
        }
    }
}

struct Watch {
    shared: Arc<Shared>,
    pair: PairId,
    old: Option<Version>,
    tasks: usize,
    began: Instant,
}

/// One look.
struct Look {
    phase: String,
    waits_for: String,
    old: u64,
    new: u64,
    at_gate: usize,
    ended: usize,
    active: Option<Version>,
}

impl Watch {
    fn look(&self, record: &PairRecord) -> Look {
        let cell = self.shared.broker.cell(&self.pair);
        let count = |version: Option<Version>| version.map_or(0, |v| cell.holder_count(v));
        let explanation = explain(record, self.shared.ports.clock.now());
        let phase = record.rotation.as_ref().map_or_else(
            || "no rotation yet".to_owned(),
            |rotation| format!("{:<13} {}", rotation.phase.shown(), phase_name(&rotation.phase)),
        );
        let tasks = self.shared.tasks.list(None);
        Look {
            phase,
            waits_for: explanation.why,
            old: count(self.old),
            new: if record.active == self.old { 0 } else { count(record.active) },
            at_gate: cell.waiting(),
            ended: tasks.iter().filter(|(_, view)| view.state != TaskState::Running).count(),
            active: record.active,
        }
    }
}

async fn follow(watch: Watch, style: Style) {
    let bars = match &style {
        Style::Moving(lines) => Some(Bars::new(lines, watch.tasks)),
        Style::Plain => None,
    };
    let mut views = watch.shared.views.watch(&watch.pair);
    let mut shown_phases = views.borrow().timeline.len();
    let mut highest_old = 1;
    loop {
        let view = views.borrow_and_update().clone();
        for mark in view.timeline.iter().skip(shown_phases) {
            let at = watch.began.elapsed().as_secs_f64();
            let (shown, name) = (mark.phase.shown(), phase_name(&mark.phase));
            style.say(&format!("{at:7.2} s  {shown:<13}  {name}"));
        }
        shown_phases = view.timeline.len();
        if let (Some(bars), Some(record)) = (&bars, &view.record) {
            let look = watch.look(record);
            highest_old = highest_old.max(look.old);
            bars.draw(&look, highest_old, watch.old);
        }
        let wait = if bars.is_some() { REDRAW_EVERY } else { Duration::from_secs(3600) };
        // Either the pair changed, or it is time to draw the holders again.
        let _ = tokio::time::timeout(wait, views.changed()).await;
    }
}

struct Bars {
    phase: ProgressBar,
    old: ProgressBar,
    new: ProgressBar,
    agents: ProgressBar,
}

impl Bars {
    fn new(lines: &MultiProgress, tasks: usize) -> Self {
        let bar = |template: &str, length: u64| {
            let style = ProgressStyle::with_template(template)
                .expect("the template is a constant")
                .progress_chars("█▌░");
            lines.add(ProgressBar::new(length).with_style(style))
        };
        let tasks = tasks as u64;
        Self {
            phase: bar("  {msg}", 1),
            old: bar("  {prefix} {bar:40.red} {pos:>5} holders  {msg}", 1),
            new: bar("  {prefix} {bar:40.green} {pos:>5} holders  {msg}", tasks),
            agents: bar("  agents  {bar:40.cyan} {pos:>5}/{len} done", tasks),
        }
    }

    fn draw(&self, look: &Look, highest_old: u64, old: Option<Version>) {
        self.phase.set_message(format!("{}: {}", look.phase, look.waits_for));
        self.old.set_length(highest_old);
        self.old.set_prefix(format!("old {:<4}", name(old)));
        self.old.set_position(look.old);
        let active = look.active.filter(|active| Some(*active) != old);
        self.new.set_prefix(format!("new {:<4}", name(active)));
        self.new.set_length(highest_old.max(look.new));
        self.new.set_position(look.new);
        self.new.set_message(match look.at_gate {
            0 => String::new(),
            waiting => format!("{waiting} wait at the gate"),
        });
        self.agents.set_position(look.ended as u64);
    }
}

fn name(version: Option<Version>) -> String {
    version.map_or_else(|| "-".into(), |version| version.to_string())
}
