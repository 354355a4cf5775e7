//! Sending messages to a stream: one plainly, several as an atomic batch
//! (NATS ADR-50), for which the client has headers and no call.

use async_nats::{
    HeaderMap, client,
    header::{NATS_BATCH_COMMIT, NATS_BATCH_COMMIT_FINAL, NATS_BATCH_ID, NATS_BATCH_SEQUENCE},
    jetstream::{
        self,
        context::{PublishError, PublishErrorKind},
        publish::PublishAck,
    },
};
use bytes::Bytes;

use crate::EntryId;

/// A message on its way to a stream.
#[derive(Debug, Clone)]
pub(crate) struct Outgoing {
    pub(crate) subject: String,
    pub(crate) headers: HeaderMap,
    pub(crate) payload: Bytes,
}

/// Sends messages that are stored as a whole, in a row, or not at all; returns
/// the acknowledgement of the last.
///
/// # Errors
/// Those of the last message, which the server also answers what is wrong with
/// the others with; or there is no message.
pub(crate) async fn send(
    jetstream: &jetstream::Context,
    mut messages: Vec<Outgoing>,
) -> Result<PublishAck, PublishError> {
    let failed = |source: async_nats::Error| PublishError::with_source(PublishErrorKind::Other, source);
    if messages.len() > 1 {
        let batch = EntryId::generate().to_string();
        for (message, place) in messages.iter_mut().zip(1_u64..) {
            message.headers.insert(NATS_BATCH_ID, batch.as_str());
            message.headers.insert(NATS_BATCH_SEQUENCE, place.to_string().as_str());
        }
        if let Some(last) = messages.last_mut() {
            last.headers.insert(NATS_BATCH_COMMIT, NATS_BATCH_COMMIT_FINAL);
        }
    }
    let last = messages.pop().ok_or_else(|| failed("nothing to send".into()))?;
    for message in messages {
        #[expect(
            clippy::disallowed_methods,
            reason = "the last message of a batch is acknowledged for all"
        )]
        jetstream
            .client()
            .publish_with_headers(message.subject, message.headers, message.payload)
            .await
            .map_err(|error| match error.kind() {
                // The client looks at the size before it sends anything.
                client::PublishErrorKind::MaxPayloadExceeded => {
                    PublishError::with_source(PublishErrorKind::MaxPayloadExceeded, error)
                }
                _ => failed(error.into()),
            })?;
    }
    jetstream
        .publish_with_headers(last.subject, last.headers, last.payload)
        .await?
        .await
}
