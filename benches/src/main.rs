//! Prints the figures of one group or of all. Ends with 1 if a bound does not hold.

use std::process::ExitCode;

use clap::Parser;
use keybaton_benches::figure::{Format, Report, Scale};
use keybaton_benches::groups::GROUPS;
use keybaton_benches::memory;
use tikv_jemallocator::Jemalloc;

/// The same as in the program that is measured.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// Measures what keybaton costs, beside well-known baselines.
#[derive(Parser)]
#[command(name = "keybaton-benches", version)]
struct Arguments {
    /// Groups to measure; all if none is named.
    #[arg(value_parser = clap::builder::PossibleValuesParser::new(
        GROUPS.iter().map(|group| clap::builder::PossibleValue::new(group.name).help(group.about))
    ))]
    groups: Vec<String>,
    /// How to print the figures.
    #[arg(short, long, value_enum, default_value = "table")]
    output: Format,
    /// Measures only cases whose name contains this.
    #[arg(short, long)]
    filter: Option<String>,
    #[command(flatten)]
    scale: Scale,
    /// Weighs something in this fresh process and prints its bytes. Started by the program itself.
    #[arg(long, hide = true)]
    weigh: Option<String>,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    if let Some(what) = arguments.weigh {
        memory::weigh(&what, std::io::stdout())?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut report = Report::new(arguments.scale, arguments.filter);
    let is_wanted = |name: &str| {
        arguments.groups.is_empty() || arguments.groups.iter().any(|group| group == name)
    };
    for group in GROUPS.iter().filter(|group| is_wanted(group.name)) {
        (group.run)(&mut report)?;
    }
    report.write(arguments.output, std::io::stdout().lock())?;
    Ok(if report.holds() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
