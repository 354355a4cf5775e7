//! The storyboard in the object store: how its sheets are named, and which of them may
//! go. All that an edge has to know of a sheet is in its name, and what a name names
//! never changes, so that caches keep it: a sheet that has grown gets another. Pure.

use std::collections::VecDeque;

use crate::{
    gst::Sheet,
    media::{Micros, SECOND},
    transcode::Epoch,
};

/// Sheets that stay though a newer one holds their pictures: a viewer may have been told
/// of them up to twenty seconds ago.
const OUTDATED: usize = 2;

/// The name of a sheet's object.
pub(crate) fn name(epoch: &Epoch, sheet: &Sheet) -> String {
    let start = epoch.program_date_time(sheet.start).timestamp_millis();
    let (width, height) = sheet.tile;
    format!(
        "{}-{start}-{}-{}x{width}x{height}-{}.jpg",
        epoch.discontinuity_sequence,
        sheet.interval / (SECOND / 1000),
        sheet.columns,
        sheet.tiles,
    )
}

/// The sheets in the store.
#[derive(Debug, Default)]
pub(crate) struct Sheets {
    newest: Option<((u64, Micros), String)>,
    outdated: VecDeque<String>,
}

impl Sheets {
    /// A sheet that begins at a time of an epoch is in the store under `key`; answers
    /// what may go.
    pub(crate) fn stored(&mut self, epoch: u64, start: Micros, key: String) -> Option<String> {
        let before = self.newest.replace(((epoch, start), key));
        // What is full stays.
        if let Some((sheet, key)) = before
            && sheet == (epoch, start)
        {
            self.outdated.push_back(key);
        }
        if self.outdated.len() > OUTDATED {
            self.outdated.pop_front()
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_sheet_that_has_grown_the_newest_stay() {
        let mut sheets = Sheets::default();
        let mut gone = Vec::new();
        let mut stored = |epoch, start, key: &str| gone.extend(sheets.stored(epoch, start, key.to_owned()));
        for key in ["a1", "a2", "a3", "a4"] {
            stored(0, 0, key);
        }
        // The same time of another epoch is another sheet.
        for key in ["b1", "b2"] {
            stored(1, 0, key);
        }
        for key in ["c1", "c2", "c3"] {
            stored(1, 250 * SECOND, key);
        }
        assert_eq!(gone, ["a1", "a2", "a3", "b1"], "neither a4 nor b2, which are whole");
    }
}
