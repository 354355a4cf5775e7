//! A collector of traces: OTLP over HTTP, as its specification says, into memory.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::post,
};
use bytes::Bytes;
use opentelemetry_proto::tonic::{
    collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse},
    common::v1::{KeyValue, any_value::Value},
    trace::v1::Span,
};
use prost::Message as _;
use tokio::{net::TcpListener, task::JoinHandle};

const PROTOBUF: &str = "application/x-protobuf";

/// A span with whom it is from.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) service: String,
    pub(crate) instance: String,
    pub(crate) span: Span,
}

impl Seen {
    pub(crate) fn attribute(&self, key: &str) -> Option<String> {
        text(&self.span.attributes, key)
    }
}

fn text(attributes: &[KeyValue], key: &str) -> Option<String> {
    let attribute = attributes.iter().find(|attribute| attribute.key == key)?;
    match attribute.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        Value::IntValue(number) => Some(number.to_string()),
        Value::BoolValue(truth) => Some(truth.to_string()),
        other => Some(format!("{other:?}")),
    }
}

/// What was sent, byte by byte and as what it says.
type Taken = Arc<Mutex<Vec<(Bytes, ExportTraceServiceRequest)>>>;

pub(crate) struct Collector {
    address: SocketAddr,
    taken: Taken,
    server: JoinHandle<std::io::Result<()>>,
}

impl Collector {
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let taken = Taken::default();
        let router = Router::new()
            .route("/v1/traces", post(take))
            .with_state(Arc::clone(&taken));
        Ok(Self {
            address,
            taken,
            server: tokio::spawn(async move { axum::serve(listener, router).await }),
        })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn taken(&self) -> Vec<(Bytes, ExportTraceServiceRequest)> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn bodies(&self) -> Vec<Bytes> {
        self.taken().into_iter().map(|(body, _)| body).collect()
    }

    pub(crate) fn spans(&self) -> Vec<Seen> {
        let mut seen = Vec::new();
        for (_, request) in self.taken() {
            for of_resource in request.resource_spans {
                let resource = of_resource.resource.unwrap_or_default().attributes;
                let own = |key| text(&resource, key).unwrap_or_default();
                let (service, instance) = (own("service.name"), own("service.instance.id"));
                assert_eq!(own("service.version"), env!("CARGO_PKG_VERSION"));
                let spans = of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
                seen.extend(spans.map(|span| Seen {
                    service: service.clone(),
                    instance: instance.clone(),
                    span,
                }));
            }
        }
        seen
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn take(State(taken): State<Taken>, headers: HeaderMap, body: Bytes) -> Response {
    let is_protobuf = headers
        .get(CONTENT_TYPE)
        .is_some_and(|media_type| media_type == PROTOBUF);
    let (true, Ok(request)) = (is_protobuf, ExportTraceServiceRequest::decode(body.clone())) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    taken
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push((body, request));
    let answer = ExportTraceServiceResponse::default().encode_to_vec();
    ([(CONTENT_TYPE, PROTOBUF)], answer).into_response()
}
