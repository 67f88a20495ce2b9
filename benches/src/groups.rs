//! The table of groups. A new group is one module and one line here.

use crate::figure::Report;
use crate::{journals, memory, registry, rotation, throughput};

/// Figures that are measured together.
pub struct Group {
    /// What it is called on the command line.
    pub name: &'static str,
    /// What it measures.
    pub about: &'static str,
    /// Measures and reports.
    pub run: fn(&mut Report) -> anyhow::Result<()>,
}

/// All groups, in the order in which they run.
pub const GROUPS: &[Group] = &[
    Group {
        name: "registry",
        about: "acquire, release, close and drain of the holder registry",
        run: registry::run,
    },
    Group {
        name: "rotation",
        about: "handing a new key over to thousands of tasks, beside bare redb",
        run: rotation::run,
    },
    Group { name: "memory", about: "an idle task beside a bare actor", run: memory::run },
    Group {
        name: "throughput",
        about: "rotations and durable steps per second, beside what the store can do",
        run: throughput::run,
    },
    Group {
        name: "journals",
        about: "commits per second on redb, Postgres, Redis and Valkey, beside the bare stores",
        run: journals::run,
    },
];
