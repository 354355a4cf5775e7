//! The pipeline: takes live sessions from the job queue, reads their stream
//! from the RTMP server, makes renditions of it and delivers them as CMAF parts
//! and segments.
//!
//! Pure: [`timeline`] (one time line), [`probe`] and [`plan`] (what is made of
//! a source), [`target`], [`clock`] and [`segmenter`] (where segments begin, parts and
//! segments), [`dates`] (when they were), [`report`] (what is said of it), [`inherit`] (what a worker that died
//! has left), `storyboard` (how its sheets are named), `room` (for another session). Edges:
//! [`ingest`] and [`flv`] (HTTP-FLV in), [`gst`] (decoders and encoders), [`store`] (media and
//! log out), [`spool`] (the way to the object store), [`retention`] (old media away), [`jobs`]
//! (the queue), [`claim`] (whose a session is). [`transcode`] joins them and needs neither the
//! log nor a network: [`folder`] is a sink for tests and benches.

pub mod app;
pub mod claim;
pub mod clock;
mod config;
pub mod dates;
mod epoch;
pub mod flv;
pub mod folder;
pub mod gst;
pub mod ingest;
pub mod inherit;
pub mod jobs;
pub mod media;
mod packager;
pub mod plan;
pub mod probe;
mod recent;
pub mod report;
pub mod retention;
mod room;
pub mod segmenter;
pub mod spool;
pub mod store;
mod storyboard;
pub mod target;
pub mod timeline;
mod tracks;
pub mod transcode;
mod yuv;

pub use app::run;
pub use config::Config;
