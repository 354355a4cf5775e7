//! The internal HTTP-FLV listener, from which pipelines read live sessions.

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    extract::{Path, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use castlog_log::SessionId;
use futures::stream;

use crate::{hub::Unreadable, server::Server};

/// `GET /flv/<session_id>`: the session's stream until its end.
pub(crate) fn router(server: Arc<Server>) -> Router {
    Router::new().route("/flv/{session}", get(flv)).with_state(server)
}

async fn flv(State(server): State<Arc<Server>>, Path(session): Path<String>) -> Response {
    let Ok(session) = session.parse::<SessionId>() else {
        return (StatusCode::NOT_FOUND, "not a session id\n").into_response();
    };
    let Some(subscription) = server.streams.subscribe(session) else {
        return (StatusCode::NOT_FOUND, "no such session here\n").into_response();
    };
    match subscription {
        Ok(subscription) => {
            tracing::info!(session_id = %session, "a reader joined the stream");
            let body = stream::unfold(subscription, |mut subscription| async {
                let bytes = subscription.next().await?;
                Some((Ok::<_, std::convert::Infallible>(bytes), subscription))
            });
            let headers = [
                (header::CONTENT_TYPE, "video/x-flv"),
                (header::CACHE_CONTROL, "no-store"),
            ];
            (headers, Body::from_stream(body)).into_response()
        }
        Err(Unreadable::Ended) => (StatusCode::GONE, "the session has ended\n").into_response(),
        Err(Unreadable::Full) => {
            (StatusCode::SERVICE_UNAVAILABLE, "the session has too many readers\n").into_response()
        }
    }
}
