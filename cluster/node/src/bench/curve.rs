//! Holders over time, drawn with characters: the old version's as they leave, the new one's as
//! they come.

use super::sighting::Count;
use super::times::{millis, shown};

const WIDTH: usize = 64;
const HEIGHT: usize = 10;

/// Draws the counts between `from` and `to`; nothing for fewer than two.
pub fn draw(counts: &[Count], from: u64, to: u64) -> Vec<String> {
    let highest = counts.iter().map(|it| it.old.max(it.new)).max().unwrap_or(0).max(1);
    if counts.len() < 2 || to <= from {
        return Vec::new();
    }
    let row_of = |holders: u64| {
        let filled = (holders * (HEIGHT as u64 - 1)).div_ceil(highest);
        HEIGHT - 1 - usize::try_from(filled).unwrap_or(HEIGHT - 1).min(HEIGHT - 1)
    };
    let columns: Vec<_> = (0..WIDTH as u64)
        .map(|column| from + (to - from) * column / (WIDTH as u64 - 1))
        // A count holds until the next one.
        .filter_map(|at| counts.iter().rev().find(|it| it.at <= at).or(counts.first()))
        .map(|count| (row_of(count.old), row_of(count.new)))
        .collect();
    let mut lines = Vec::new();
    for place in 0..HEIGHT {
        let label = match place {
            0 => highest.to_string(),
            place if place == HEIGHT - 1 => "0".to_owned(),
            _ => String::new(),
        };
        let mark = |&(old, new): &(usize, usize)| match place {
            place if place == old => '█',
            place if place == new => '·',
            _ => ' ',
        };
        lines.push(format!("{label:>7} │{}", columns.iter().map(mark).collect::<String>()));
    }
    lines.push(format!("{:>7} └{}", "", "─".repeat(WIDTH)));
    let end = shown(millis(to - from));
    lines.push(format!("{:>9}0{end:>width$}", "", width = WIDTH - 1));
    lines.push(format!("{:>9}█ hold the old version   · hold the new one", ""));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_old_versions_holders_fall_and_the_new_ones_rise() {
        let counts: Vec<_> =
            (0..=100).map(|n| Count { at: 1000 + n * 10, old: 100 - n, new: n }).collect();
        let lines = draw(&counts, 1000, 2000);
        assert!(lines[0].contains("100 │█"), "{lines:#?}");
        assert!(lines[0].ends_with('·'), "{lines:#?}");
        assert!(lines[HEIGHT - 1].ends_with('█'), "{lines:#?}");
        assert!(lines.last().is_some_and(|line| line.contains("hold the old")));
        assert!(lines[HEIGHT + 1].ends_with("1.00 ms"), "{lines:#?}");
    }

    #[test]
    fn nothing_is_drawn_of_nothing() {
        assert!(draw(&[], 0, 10).is_empty());
        assert!(draw(&[Count { at: 1, old: 2, new: 0 }], 0, 10).is_empty());
    }
}
