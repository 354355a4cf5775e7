//! Which subjects of a stream have an entry.

use futures::{Stream, StreamExt as _, future::ready};

use crate::{Log, ReadError, Subject, read::unavailable};

impl Log {
    /// The subjects of a stream that have an entry and that `filter` matches, in no
    /// particular order. They come from the server some thousands at a time.
    ///
    /// # Errors
    /// The log cannot be reached.
    pub async fn subjects(
        &self,
        stream: &str,
        filter: &str,
    ) -> Result<impl Stream<Item = Result<Subject, ReadError>> + Unpin, ReadError> {
        let stream = stream.to_owned();
        let handle = self.jetstream.get_stream_no_info(&stream).await;
        let handle = handle.map_err(|e| unavailable(&stream, e))?;
        let listed = handle.info_with_subjects(filter).await;
        let listed = listed.map_err(|e| unavailable(&stream, e))?;
        // What is no subject of an entry was published by somebody else.
        Ok(listed.filter_map(move |listed| {
            ready(match listed {
                Ok((subject, _)) => subject.parse().ok().map(Ok),
                Err(error) => Some(Err(unavailable(&stream, error))),
            })
        }))
    }
}
