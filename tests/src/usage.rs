//! What a process has used so far, from proc(5).

use std::time::Duration;

use anyhow::Context as _;

/// Whose CPU time.
#[derive(Debug, Clone, Copy)]
pub enum Who {
    /// The process's own.
    Itself,
    /// Those of its children that have ended.
    Children,
}

/// User and system CPU time of a process (`self`, or its id), from its `stat` (fields
/// 14 to 17, in ticks of 10 ms).
///
/// # Errors
/// There is no such process, or this system has no proc(5).
pub fn cpu(process: &str, who: Who) -> anyhow::Result<Duration> {
    const TICK: Duration = Duration::from_millis(10);
    let path = format!("/proc/{process}/stat");
    let stat = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    // The name in parentheses can hold spaces; the fields behind it cannot.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let first = match who {
        Who::Itself => 11,
        Who::Children => 13,
    };
    let mut ticks = 0;
    for field in fields
        .get(first..first + 2)
        .with_context(|| format!("{path} is short"))?
    {
        ticks += field.parse::<u32>()?;
    }
    Ok(TICK * ticks)
}

/// Resident memory of a process (`self`, or its id) in bytes: `VmRSS` of its `status`.
///
/// # Errors
/// As those of [`cpu`].
pub fn resident(process: &str) -> anyhow::Result<u64> {
    let path = format!("/proc/{process}/status");
    let status = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: u64 = line
        .and_then(|line| line.split_whitespace().next())
        .with_context(|| format!("no VmRSS in {path}"))?
        .parse()?;
    Ok(kib * 1024)
}
