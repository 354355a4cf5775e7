//! What an epoch sets up for its plan.

use super::*;
use crate::plan::{
    plan,
    tests::{limits, source},
};

/// An epoch of a source with a picture of this size.
fn start((width, height): (u32, u32), thumbnails: bool) -> Running {
    gst::init().unwrap();
    let settings = Settings {
        segment_target: 2 * SECOND,
        announced: None,
        known: None,
        part_target: SECOND / 5,
        limits: limits(),
        preset: "ultrafast".to_owned(),
        thumbnails,
        first_media_sequence: 0,
        discontinuity_sequence: 0,
        dated_to: None,
    };
    let source = source(width, height);
    let start = Start {
        source: source.clone(),
        first_media_sequence: 0,
        discontinuity_sequence: 0,
        wall: (0, chrono::Utc::now()),
        target: Target::from_millis(2000),
        after: None,
    };
    Running::start(&settings, &plan(&source, &limits()), start).unwrap()
}

#[test]
fn what_is_only_passed_through_is_not_decoded() {
    let small = (256, 144);
    assert!(start(small, false).video.is_none());
    assert!(start(small, true).video.is_some(), "for thumbnails");
    assert!(start((640, 360), false).video.is_some(), "for a rung");
}
