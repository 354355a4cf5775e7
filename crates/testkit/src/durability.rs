//! What durability means, as a check: of entries that were acknowledged each
//! is in the stream exactly once, where its receipt says, and entries of one
//! subject stand in the order in which they were published.
//!
//! The check is a function of two lists and knows no server: tests plant a
//! loss, a duplicate and a reordering to see that it finds them.

use std::collections::HashMap;

/// An entry as its publisher knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acked {
    /// Subject.
    pub subject: String,
    /// Entry id.
    pub id: String,
    /// Place among the entries that its publisher published on the subject.
    pub number: u64,
    /// Sequence of the receipt.
    pub sequence: u64,
    /// The publisher gave it up once and published it again, so that it may
    /// stand behind later ones.
    pub again: bool,
}

/// An entry as it stands in the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Subject.
    pub subject: String,
    /// Entry id.
    pub id: String,
    /// Sequence.
    pub sequence: u64,
}

/// A broken promise.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Violation {
    /// An acknowledged entry is not there.
    Lost(Acked),
    /// An entry is there more than once, at these sequences.
    Doubled(String, Vec<u64>),
    /// An entry is not where its receipt says, but at this sequence.
    Misplaced(Acked, u64),
    /// The second was published before the first and stands behind it.
    Reordered(Acked, Acked),
}

/// Compares what was acknowledged with what is stored, in any order.
#[must_use]
pub fn check(acked: &[Acked], stored: &[Stored]) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut places: HashMap<&str, Vec<u64>> = HashMap::new();
    for entry in stored {
        places.entry(&entry.id).or_default().push(entry.sequence);
    }
    let mut doubled: Vec<_> = places.iter().filter(|(_, at)| at.len() > 1).collect();
    doubled.sort_unstable();
    violations.extend(
        doubled
            .into_iter()
            .map(|(id, at)| Violation::Doubled((*id).to_owned(), at.clone())),
    );

    let mut subjects: HashMap<&str, Vec<(&Acked, u64)>> = HashMap::new();
    for entry in acked {
        match places.get(entry.id.as_str()).map(Vec::as_slice) {
            None | Some([]) => violations.push(Violation::Lost(entry.clone())),
            Some([first, ..]) => {
                if *first != entry.sequence {
                    violations.push(Violation::Misplaced(entry.clone(), *first));
                }
                if !entry.again {
                    subjects.entry(&entry.subject).or_default().push((entry, *first));
                }
            }
        }
    }
    let mut subjects: Vec<_> = subjects.into_iter().collect();
    subjects.sort_unstable_by_key(|(subject, _)| *subject);
    for (_, mut entries) in subjects {
        entries.sort_unstable_by_key(|(_, place)| *place);
        for pair in entries.windows(2) {
            if let [(before, _), (after, _)] = pair
                && before.number > after.number
            {
                violations.push(Violation::Reordered((*before).clone(), (*after).clone()));
            }
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Six entries on two subjects, stored as they should be.
    fn run() -> (Vec<Acked>, Vec<Stored>) {
        let acked: Vec<_> = (1..=6_u64)
            .map(|sequence| Acked {
                subject: format!("s{}", sequence % 2),
                id: format!("id-{sequence}"),
                number: sequence / 2,
                sequence,
                again: false,
            })
            .collect();
        let stored = acked.iter().map(|entry| Stored {
            subject: entry.subject.clone(),
            id: entry.id.clone(),
            sequence: entry.sequence,
        });
        let stored = stored.collect();
        (acked, stored)
    }

    #[test]
    fn a_sound_log_passes() {
        let (mut acked, mut stored) = run();
        // One that was never acknowledged may be there.
        stored.push(Stored {
            subject: "s0".to_owned(),
            id: "unknown".to_owned(),
            sequence: 7,
        });
        acked.reverse();
        assert_eq!(check(&acked, &stored), []);
    }

    #[test]
    fn a_planted_loss_is_found() {
        let (acked, mut stored) = run();
        stored.remove(3);
        assert_eq!(check(&acked, &stored), [Violation::Lost(acked[3].clone())]);
    }

    #[test]
    fn a_planted_duplicate_is_found() {
        let (acked, mut stored) = run();
        let again = Stored {
            sequence: 7,
            ..stored[1].clone()
        };
        stored.push(again);
        assert_eq!(
            check(&acked, &stored),
            [Violation::Doubled("id-2".to_owned(), vec![2, 7])]
        );
    }

    #[test]
    fn a_planted_reordering_is_found() {
        let (mut acked, mut stored) = run();
        // The receipts agree with the log, and both with the wrong order.
        (stored[0].id, stored[2].id) = (stored[2].id.clone(), stored[0].id.clone());
        (acked[0].sequence, acked[2].sequence) = (3, 1);
        assert_eq!(
            check(&acked, &stored),
            [Violation::Reordered(acked[2].clone(), acked[0].clone())]
        );
    }

    #[test]
    fn a_receipt_that_names_another_place_is_found() {
        let (mut acked, stored) = run();
        acked[5].sequence = 9;
        assert_eq!(check(&acked, &stored), [Violation::Misplaced(acked[5].clone(), 6)]);
    }

    #[test]
    fn an_entry_given_up_and_published_again_may_stand_later() {
        let (mut acked, stored) = run();
        acked[5].number = 0;
        assert_eq!(check(&acked, &stored).len(), 1);
        acked[5].again = true;
        assert_eq!(check(&acked, &stored), []);
    }
}
