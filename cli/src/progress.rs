//! How far a rebuild or a comparison is, for whoever looks on.

use std::{
    io::IsTerminal as _,
    sync::{Mutex, PoisonError},
};

use castlog_projector::{Progress, Step};
use indicatif::{ProgressBar, ProgressStyle};

/// A bar where somebody looks on, else a line per tenth of each phase.
pub(crate) fn watched() -> Progress {
    if !std::io::stderr().is_terminal() {
        let last = Mutex::new(None);
        return Progress::new(move |step| {
            let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(line) = line(&mut last, step) {
                eprintln!("{line}");
            }
        });
    }
    let bar = ProgressBar::new(0);
    // Without a style of its own, the bar has the library's.
    if let Ok(style) = ProgressStyle::with_template("{msg:20} {wide_bar} {human_pos}/{human_len} {eta}") {
        bar.set_style(style);
    }
    Progress::new(move |step| {
        bar.set_message(step.phase);
        bar.set_length(step.total);
        bar.set_position(step.done);
    })
}

/// The line for a step, unless the one before has said as much.
fn line(last: &mut Option<(&'static str, u64)>, step: Step) -> Option<String> {
    let tenths = (step.done * 10).checked_div(step.total).unwrap_or(10);
    if *last == Some((step.phase, tenths)) {
        return None;
    }
    *last = Some((step.phase, tenths));
    Some(format!("{}: {} of {}", step.phase, step.done, step.total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_per_tenth() {
        let mut last = None;
        let step = |done| Step {
            phase: "reading the log",
            done,
            total: 1000,
        };
        let lines: Vec<_> = (1..=1000).filter_map(|done| line(&mut last, step(done))).collect();
        assert_eq!(lines.len(), 11, "{lines:?}");
        assert_eq!(lines[10], "reading the log: 1000 of 1000");
        let empty = Step {
            phase: "writing the index",
            done: 0,
            total: 0,
        };
        assert_eq!(line(&mut last, empty).as_deref(), Some("writing the index: 0 of 0"));
    }
}
