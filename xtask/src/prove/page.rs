//! `docs/evidence.md`: the part that a run writes, between two marks; what people wrote stays.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result, bail};
use keybaton_evidence::Evidence;

use super::chart;

const PAGE: &str = "docs/evidence.md";
const CHARTS: &str = "docs/evidence";
const BEGIN: &str = "<!-- written by `cargo xtask prove` from here -->";
const END: &str = "<!-- to here -->";

/// Writes the table, the counterexamples and the charts into the page; `missing` are claims without
/// evidence.
pub fn write(root: &Path, found: &[Evidence], missing: &[&str], minutes: u64) -> Result<()> {
    let path = root.join(PAGE);
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {PAGE}"))?;
    let (Some(begin), Some(end)) = (text.find(BEGIN), text.find(END)) else {
        bail!("{PAGE} lacks its marks `{BEGIN}` and `{END}`; put them back");
    };
    let before = &text[..begin + BEGIN.len()];
    let after = &text[end..];
    let charts = chart::write(&root.join(CHARTS), found)?;
    let body = body(found, missing, minutes, &charts);
    std::fs::write(&path, format!("{before}\n\n{body}\n{after}"))
        .with_context(|| format!("cannot write {PAGE}"))
}

fn body(found: &[Evidence], missing: &[&str], minutes: u64, charts: &[(String, String)]) -> String {
    let mut page = format!(
        "From `cargo xtask prove --minutes {minutes}` on {} cores.\n\n",
        std::thread::available_parallelism().map_or(1, usize::from)
    );
    page += "| claim | method | cases | time | result | mutants found | command |\n";
    page += "|---|---|--:|--:|---|--:|---|\n";
    for it in found {
        let result = if it.holds { "holds" } else { "**broken**" };
        let refuted = it.mutants.iter().filter(|mutant| mutant.refuted).count();
        let _ = writeln!(
            page,
            "| [{}](#{}) | {} | {} {} | {:.0} s | {result} | {refuted} of {} | `{}` |",
            it.claim,
            it.claim,
            it.method,
            grouped(it.cases),
            it.unit,
            it.seconds,
            it.mutants.len(),
            it.command
        );
    }
    for claim in missing {
        let _ = writeln!(page, "| {claim} | | | | **left no evidence** | | |");
    }
    for it in found {
        section(&mut page, it, charts);
    }
    page
}

/// One claim: its sentence, its notes, and each mutant with the way in which it shows.
fn section(page: &mut String, it: &Evidence, charts: &[(String, String)]) {
    let _ = write!(page, "\n### {}\n\n{}.\n", it.claim, it.statement.trim_end_matches('.'));
    for note in &it.notes {
        let _ = write!(page, "\n- {note}");
    }
    page.push('\n');
    for (_, file) in charts.iter().filter(|(claim, _)| *claim == it.claim) {
        let _ = write!(page, "\n![{}](evidence/{file})\n", it.claim);
    }
    if !it.counterexample.is_empty() {
        let _ = write!(page, "\n**Counterexample**\n\n```text\n{}\n```\n", it.counterexample);
    }
    let (short, long): (Vec<_>, Vec<_>) =
        it.mutants.iter().partition(|mutant| mutant.how.lines().count() <= 1);
    if !short.is_empty() {
        page.push_str("\n| mutant | how it shows |\n|---|---|\n");
        for mutant in short {
            let how = if mutant.refuted { mutant.how.as_str() } else { "**not noticed**" };
            let _ = writeln!(page, "| {} | {} |", cell(&mutant.name), cell(how));
        }
    }
    for mutant in long {
        let (first, rest) = mutant.how.split_once('\n').unwrap_or_default();
        let _ = write!(
            page,
            "\n<details><summary>mutant: {}. {first}</summary>\n\n```text\n{rest}\n```\n\n</details>\n",
            mutant.name
        );
    }
}

/// A text that does not end its cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

/// A number as people read it: `1 234 567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use keybaton_evidence::Mutant;

    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        assert_eq!(grouped(7), "7");
        assert_eq!(grouped(1_234), "1 234");
        assert_eq!(grouped(1_234_567), "1 234 567");
    }

    #[test]
    fn a_page_keeps_what_people_wrote_and_names_each_claim_and_mutant() {
        let root = tempfile::tempdir().expect("a directory");
        let page = root.path().join(PAGE);
        std::fs::create_dir_all(page.parent().expect("docs")).expect("made");
        std::fs::write(&page, format!("# Head\n{BEGIN}\nstale text\n{END}\ntail\n"))
            .expect("written");
        let mutant = |how: &str| Mutant { name: "m|1".into(), refuted: true, how: how.into() };
        let evidence = Evidence {
            claim: "s1".into(),
            holds: true,
            cases: 5,
            mutants: vec![mutant("S1 broke"), mutant("S2 broke\n1. one\n2. two")],
            ..Evidence::default()
        };
        write(root.path(), &[evidence], &["absent"], 3).expect("written");
        let text = std::fs::read_to_string(&page).expect("read");
        assert!(text.starts_with("# Head\n") && text.ends_with("\ntail\n"), "{text}");
        assert!(!text.contains("stale text"));
        let absent = "| absent | | | | **left no evidence** |";
        for part in [absent, "| [s1](#s1) |", "2 of 2", "| m\\|1 | S1 broke |", "1. one\n2. two"] {
            assert!(text.contains(part), "{part} in {text}");
        }
        std::fs::write(&page, "no marks").expect("written");
        assert!(write(root.path(), &[], &[], 3).is_err());
    }
}
