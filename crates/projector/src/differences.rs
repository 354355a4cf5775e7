//! Where a view is not what the log says.

/// Lines that are kept: enough to see what is wrong, of a view that may be wrong
/// everywhere.
const KEPT: usize = 50;

/// Where a view is not what the log says, one line each: the first 50, and how many
/// there are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Differences {
    lines: Vec<String>,
    count: u64,
}

impl Differences {
    /// Adds one.
    pub fn add(&mut self, line: impl Into<String>) {
        self.count += 1;
        if self.lines.len() < KEPT {
            self.lines.push(line.into());
        }
    }

    /// Adds those of another comparison.
    pub fn merge(&mut self, other: Self) {
        self.count += other.count - u64::try_from(other.lines.len()).unwrap_or(other.count);
        self.extend(other.lines);
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.count
    }

    /// The view is what the log says.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The first of them.
    #[must_use]
    pub fn lines(&self) -> &[String] {
        &self.lines
    }
}

impl Extend<String> for Differences {
    fn extend<T: IntoIterator<Item = String>>(&mut self, lines: T) {
        lines.into_iter().for_each(|line| self.add(line));
    }
}

impl FromIterator<String> for Differences {
    fn from_iter<T: IntoIterator<Item = String>>(lines: T) -> Self {
        let mut differences = Self::default();
        differences.extend(lines);
        differences
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_counted_and_the_first_are_kept() {
        let differences: Differences = (0..1000).map(|n| format!("{n}")).collect();
        assert_eq!((differences.len(), differences.lines().len()), (1000, KEPT));
        assert_eq!(differences.lines()[0], "0");
        assert!(Differences::default().is_empty() && !differences.is_empty());
        let mut all: Differences = ["a".to_owned()].into_iter().collect();
        all.merge(differences);
        assert_eq!((all.len(), all.lines().len(), &*all.lines()[1]), (1001, KEPT, "0"));
    }
}
