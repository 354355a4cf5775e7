//! Dead letters over HTTP: listed, looked at, and handed to their consumer again;
//! and who did what with them.

use std::sync::Arc;

use axum::{
    Extension, Json,
    extract::{FromRequestParts, Path, State},
    http::{StatusCode, request::Parts},
};
use castlog_log::{
    dead_letter::{self, Attempt, Deed, Filter, Letter, LetterError, Outcome, RedriveError},
    decode_json,
};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::{
    Api, RequestId,
    log::{Header, MAX_LIST, headers},
};
use crate::{
    auth::Admin,
    extract::{number, pairs, unknown_parameter},
    model::rfc3339,
    problem::{Code, Problem, ProblemBody},
};

/// Dead letters, the oldest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeadLetters {
    items: Vec<DeadLetter>,
    /// How many there are beyond.
    left_out: u64,
}

/// An entry that a consumer gave up.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeadLetter {
    id: u64,
    /// When the consumer gave it up.
    #[schema(format = DateTime)]
    time: String,
    consumer: String,
    /// Where the entry stands in the log.
    stream: String,
    seq: u64,
    subject: String,
    /// Why: a code and what is wrong.
    reason: String,
    headers: Vec<Header>,
    /// The entry's payload in hexadecimal digits; null in a list.
    payload_hex: Option<String>,
    /// The payload as readable JSON; null in a list, and where it is none.
    #[schema(value_type = Option<Object>)]
    data: Option<Value>,
}

impl DeadLetter {
    fn of(letter: Letter, whole: bool) -> Self {
        Self {
            id: letter.id,
            time: rfc3339(letter.time),
            data: whole
                .then(|| decode_json(&letter.subject, &letter.payload).ok())
                .flatten(),
            payload_hex: whole.then(|| hex::encode(&letter.payload)),
            consumer: letter.consumer,
            stream: letter.position.stream,
            seq: letter.position.sequence,
            subject: letter.subject,
            reason: letter.reason,
            headers: headers(letter.headers),
        }
    }
}

/// The letters that are asked for.
pub(crate) struct Which {
    filter: Filter,
    limit: usize,
}

impl FromRequestParts<Arc<Api>> for Which {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Api>) -> Result<Self, Problem> {
        let mut which = Self {
            filter: Filter::default(),
            limit: 100,
        };
        for (name, value) in pairs(parts) {
            // They become tokens of a subject.
            let token = || {
                let is_token = value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
                let token = (is_token && (1..=64).contains(&value.len())).then(|| value.clone());
                token.ok_or_else(|| Problem::new(Code::Malformed, format!("{name}: there is no such one")))
            };
            match &*name {
                "consumer" => which.filter.consumer = Some(token()?),
                "stream" => which.filter.stream = Some(token()?),
                "limit" => which.limit = number("limit", &value, 1, MAX_LIST)?,
                _ => return Err(unknown_parameter(&name)),
            }
        }
        Ok(which)
    }
}

/// Lists the dead letters.
#[utoipa::path(
    get, path = "/v1/log/dead-letters", operation_id = "dead_letters", tag = "log", security(("token" = [])),
    params(
        ("consumer" = Option<String>, Query, description = "Only those of this consumer"),
        ("stream" = Option<String>, Query, description = "Only those of entries of this stream"),
        ("limit" = Option<usize>, Query, description = "1 to 500; the default is 100", minimum = 1, maximum = 500),
    ),
    responses(
        (status = 200, description = "Dead letters", body = DeadLetters),
        (status = "default", description = "Problem", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn list(State(api): State<Arc<Api>>, _: Admin, which: Which) -> Result<Json<DeadLetters>, Problem> {
    let (letters, left_out) = dead_letter::list(&api.log, &which.filter, which.limit).await?;
    let items = letters.into_iter().map(|letter| DeadLetter::of(letter, false));
    Ok(Json(DeadLetters {
        items: items.collect(),
        left_out,
    }))
}

async fn letter(api: &Api, id: &str) -> Result<Letter, Problem> {
    let id = id.parse().ok().filter(|id| *id > 0);
    let id = id.ok_or_else(|| Problem::new(Code::NoEntry, "there is no such dead letter"))?;
    Ok(dead_letter::get(&api.log, id).await?)
}

/// Reads a dead letter, with its payload.
#[utoipa::path(
    get, path = "/v1/log/dead-letters/{id}", operation_id = "dead_letter_of", tag = "log", security(("token" = [])),
    params(("id" = u64, Path, description = "Dead letter")),
    responses(
        (status = 200, description = "The dead letter", body = DeadLetter),
        (status = "default", description = "Problem", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn read(
    State(api): State<Arc<Api>>,
    _: Admin,
    Path(id): Path<String>,
) -> Result<Json<DeadLetter>, Problem> {
    Ok(Json(DeadLetter::of(letter(&api, &id).await?, true)))
}

/// Hands the entry of a dead letter to its consumer again, and to no other. The
/// letter is gone once the entry is applied. Each attempt is put on record.
#[utoipa::path(
    post, path = "/v1/log/dead-letters/{id}/redrive", tag = "log", security(("token" = [])),
    params(("id" = u64, Path, description = "Dead letter")),
    responses(
        (status = 204, description = "Applied"),
        (status = "default", description = "Problem", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn redrive(
    State(api): State<Arc<Api>>,
    admin: Admin,
    Extension(RequestId(request)): Extension<RequestId>,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    let letter = letter(&api, &id).await?;
    let by = format!("{}, request {request}", admin.by);
    let outcome = dead_letter::redrive(&api.log, &letter, &by).await;
    let said = outcome
        .as_ref()
        .map_or_else(ToString::to_string, |()| "applied".to_owned());
    tracing::info!(
        dead_letter = letter.id,
        consumer = letter.consumer,
        stream = letter.position.stream,
        seq = letter.position.sequence,
        subject = letter.subject,
        outcome = said,
        "dead letter redriven by an admin"
    );
    outcome?;
    Ok(StatusCode::NO_CONTENT)
}

/// What was done with dead letters, the newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Attempts {
    items: Vec<LetterAttempt>,
}

/// Something that was done with a dead letter, or tried.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LetterAttempt {
    id: String,
    /// When it began.
    #[schema(format = DateTime)]
    time: String,
    /// Who did it, and the id of the request, where it was one.
    #[schema(example = "admin, by the token, request 01k…")]
    by: String,
    deed: LetterDeed,
    letter: u64,
    consumer: String,
    /// Where the entry stands in the log.
    stream: String,
    seq: u64,
    subject: String,
    outcome: LetterOutcome,
    /// Why the letter was kept.
    reason: Option<String>,
}

/// What was done.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LetterDeed {
    Redrive,
    Discard,
    /// What only a newer version does.
    Other,
}

/// What came of it. `none`: it goes on, or broke off.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LetterOutcome {
    Applied,
    Discarded,
    Kept,
    None,
}

impl From<Attempt> for LetterAttempt {
    fn from(attempt: Attempt) -> Self {
        let (outcome, reason) = match attempt.outcome {
            Some(Outcome::Applied) => (LetterOutcome::Applied, None),
            Some(Outcome::Discarded) => (LetterOutcome::Discarded, None),
            Some(Outcome::Kept { reason }) => (LetterOutcome::Kept, Some(reason)),
            _ => (LetterOutcome::None, None),
        };
        Self {
            id: attempt.id,
            time: rfc3339(attempt.time),
            by: attempt.by,
            deed: match attempt.deed {
                Deed::Redrive => LetterDeed::Redrive,
                Deed::Discard => LetterDeed::Discard,
                _ => LetterDeed::Other,
            },
            letter: attempt.letter,
            consumer: attempt.consumer,
            stream: attempt.position.stream,
            seq: attempt.position.sequence,
            subject: attempt.subject,
            outcome,
            reason,
        }
    }
}

/// How many attempts are asked for.
pub(crate) struct Newest(usize);

impl FromRequestParts<Arc<Api>> for Newest {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Api>) -> Result<Self, Problem> {
        let mut newest = Self(50);
        for (name, value) in pairs(parts) {
            match &*name {
                "limit" => newest.0 = number("limit", &value, 1, MAX_LIST)?,
                _ => return Err(unknown_parameter(&name)),
            }
        }
        Ok(newest)
    }
}

/// Lists what was done with dead letters, over HTTP or by `castlog dead-letter`:
/// who, when, with which letter, and what came of it.
#[utoipa::path(
    get, path = "/v1/log/dead-letters/attempts", operation_id = "dead_letter_attempts", tag = "log",
    security(("token" = [])),
    params(
        ("limit" = Option<usize>, Query, description = "1 to 500; the default is 50", minimum = 1, maximum = 500),
    ),
    responses(
        (status = 200, description = "Attempts", body = Attempts),
        (status = "default", description = "Problem", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn attempts(
    State(api): State<Arc<Api>>,
    _: Admin,
    Newest(limit): Newest,
) -> Result<Json<Attempts>, Problem> {
    let attempts = dead_letter::attempts(&api.log, limit).await?;
    let items = attempts.into_iter().map(LetterAttempt::from);
    Ok(Json(Attempts { items: items.collect() }))
}

impl From<LetterError> for Problem {
    fn from(error: LetterError) -> Self {
        match error {
            LetterError::Missing(_) => Self::new(Code::NoEntry, "there is no such dead letter"),
            error => {
                tracing::warn!(error = %error, "dead letters cannot be read");
                Self::new(Code::LogUnavailable, "the dead letters cannot be read; try again")
            }
        }
    }
}

impl From<RedriveError> for Problem {
    fn from(error: RedriveError) -> Self {
        let code = match &error {
            RedriveError::Refused { .. } => Code::NotRedriven,
            RedriveError::NobodyThere(_) | RedriveError::NoAnswer { .. } | RedriveError::Unwritable { .. } => {
                Code::ConsumerUnavailable
            }
            _ => Code::LogUnavailable,
        };
        Self::new(code, error.to_string())
    }
}
