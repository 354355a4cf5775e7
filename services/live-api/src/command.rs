//! Commands: checked values in, entries in the log, sequences out. They read the
//! log and nothing else, so they work while every view is down.
//!
//! A creation publishes title, tags and options first, then the registration,
//! which makes the broadcast exist whole, and the publish key last: only the
//! request whose registration was stored issues the key, so of two requests with
//! the same `Idempotency-Key` never one voids the other's key. What a crash in
//! between leaves is either nothing that anyone sees, or a whole broadcast
//! without a key, for which a key can be rotated in.

use castlog_log::{BroadcastId, Draft, Event, Kind, Log, PublishError, PublishKey, Publisher, Receipt, pb};
use chrono::Utc;
use pb::{publish_key, registration};

use crate::{
    extract::Conditions,
    idempotency::{ChangeId, Relation},
    input::Checked,
    model::{Newest, timestamp},
    problem::{Code, Problem},
};

/// Gives commands in the name of one owner.
pub(crate) struct Commands {
    log: Log,
    publisher: Publisher,
    owner: String,
}

/// What became of a creation.
pub(crate) struct Created {
    pub(crate) id: BroadcastId,
    pub(crate) newest: Newest,
    /// `None` when the request is a repetition: the key is shown once.
    pub(crate) key: Option<PublishKey>,
}

/// What became of a rotation.
pub(crate) struct Rotated {
    pub(crate) sequence: u64,
    /// `None` when the request is a repetition: the key is shown once.
    pub(crate) key: Option<PublishKey>,
}

impl Commands {
    pub(crate) fn new(log: &Log, owner: &str) -> Self {
        Self {
            log: log.clone(),
            publisher: Publisher::new(log, "live-api"),
            owner: owner.to_owned(),
        }
    }

    pub(crate) async fn create(&self, new: Checked, conditions: &Conditions) -> Result<Created, Problem> {
        let body = serde_json::to_vec(&new)
            .map_err(|_| Problem::new(Code::Internal, "the request cannot be written as JSON"))?;
        let key = conditions.idempotency.as_ref();
        let id = key.map_or_else(BroadcastId::generate, |key| key.broadcast());
        let registration_id = key.map(|key| key.creation(Kind::Registration, &body));
        if let Some(wanted) = &registration_id
            && let Some(known) = self.log.last(Kind::Registration, id).await?
        {
            return self.repeated(id, known.id == *wanted).await;
        }

        let draft = |event: Event| {
            let kind = event.kind();
            let draft = Draft::new(id, event).traceparent(conditions.traceparent.clone());
            match key {
                Some(key) => draft.id(key.creation(kind, &body)),
                None => draft,
            }
        };
        let publish = async |event: Event| -> Result<(Kind, (Event, u64)), PublishError> {
            let receipt = self.publisher.publish(draft(event.clone())).await?;
            Ok((event.kind(), (event, receipt.sequence)))
        };
        let title = pb::Title {
            event: Some(pb::title::Event::Changed(pb::title::Changed { title: new.title })),
        };
        let tags = pb::Tags {
            event: Some(pb::tags::Event::Changed(pb::tags::Changed { tags: new.tags })),
        };
        let options = pb::Options {
            event: Some(pb::options::Event::Changed(new.options.into())),
        };
        let about = futures::try_join!(publish(title.into()), publish(tags.into()), publish(options.into()))?;
        let mut newest = Newest::from([about.0, about.1, about.2]);

        let created = registration::Created {
            owner: self.owner.clone(),
            created_at: Some(timestamp(Utc::now())),
        };
        let event: Event = pb::Registration {
            event: Some(registration::Event::Created(created)),
        }
        .into();
        match self.publisher.publish(draft(event.clone()).expect_last(0)).await {
            Ok(Receipt {
                duplicate: false,
                sequence,
                ..
            }) => newest.insert(Kind::Registration, (event, sequence)),
            // Another request with this key, or this one's lost first attempt, has registered it.
            Ok(_) => return self.repeated(id, true).await,
            Err(PublishError::Conflict { .. }) => return self.repeated(id, false).await,
            Err(error) => return Err(error.into()),
        };

        let key = PublishKey::generate();
        let issued = publish_key::Issued {
            key_hash: key.hash().to_string(),
        };
        let event: Event = pb::PublishKey {
            event: Some(publish_key::Event::Issued(issued)),
        }
        .into();
        let issue = Draft::new(id, event.clone())
            .traceparent(conditions.traceparent.clone())
            .expect_last(0);
        let sequence = self.publisher.publish(issue).await?.sequence;
        newest.insert(Kind::PublishKey, (event, sequence));
        tracing::info!(broadcast_id = %id, seq = sequence, "broadcast created");
        Ok(Created {
            id,
            newest,
            key: Some(key),
        })
    }

    /// Answers a creation whose `Idempotency-Key` has a broadcast.
    async fn repeated(&self, id: BroadcastId, same: bool) -> Result<Created, Problem> {
        if !same {
            return Err(Problem::new(
                Code::KeyReused,
                "this Idempotency-Key created a broadcast from another body, or one that is deleted",
            ));
        }
        let newest = self.newest(id).await?;
        Ok(Created { id, newest, key: None })
    }

    /// The newest entry of every kind that a broadcast is shown by.
    async fn newest(&self, id: BroadcastId) -> Result<Newest, Problem> {
        let all = futures::future::try_join_all(Kind::STATE.map(|kind| self.log.last(kind, id))).await?;
        let entries = all.into_iter().flatten();
        Ok(entries
            .map(|entry| (entry.subject.kind, (entry.event, entry.position.sequence)))
            .collect())
    }

    /// The registration of a broadcast that exists, with its sequence.
    async fn registered(&self, id: BroadcastId) -> Result<(registration::Created, u64), Problem> {
        let Some(entry) = self.log.last(Kind::Registration, id).await? else {
            return Err(Problem::no_broadcast());
        };
        match entry.event {
            Event::Registration(pb::Registration {
                event: Some(registration::Event::Created(created)),
            }) => Ok((created, entry.position.sequence)),
            _ => Err(Problem::no_broadcast()),
        }
    }

    /// The sequence of the entry that a request with the same `Idempotency-Key` has made,
    /// however long ago: the server's own memory of ids is two minutes.
    async fn made_before(
        &self,
        kind: Kind,
        id: BroadcastId,
        change: Option<&ChangeId>,
    ) -> Result<Option<u64>, Problem> {
        let Some(change) = change else {
            return Ok(None);
        };
        for entry in self.log.history(kind.of(id)).await?.iter().rev() {
            match change.relation(&entry.id) {
                Relation::Same => return Ok(Some(entry.sequence())),
                Relation::OtherBody => {
                    return Err(Problem::new(
                        Code::KeyReused,
                        "this Idempotency-Key made a change to another value",
                    ));
                }
                Relation::None => {}
            }
        }
        Ok(None)
    }

    /// Sets title, tags or options.
    pub(crate) async fn set(&self, id: BroadcastId, event: Event, conditions: &Conditions) -> Result<u64, Problem> {
        self.registered(id).await?;
        let kind = event.kind();
        let change = conditions.change(id, kind.token(), &event.encode());
        if let Some(made) = self.made_before(kind, id, change.as_ref()).await? {
            return Ok(made);
        }
        Ok(self
            .publish(id, event, change, conditions.if_match, conditions)
            .await?
            .sequence)
    }

    /// Puts a new publish key in place of the old one.
    pub(crate) async fn rotate(&self, id: BroadcastId, conditions: &Conditions) -> Result<Rotated, Problem> {
        self.registered(id).await?;
        let change = conditions.change(id, "rotate", b"");
        if let Some(sequence) = self.made_before(Kind::PublishKey, id, change.as_ref()).await? {
            return Ok(Rotated { sequence, key: None });
        }
        let last = self.log.last(Kind::PublishKey, id).await?;
        let key = PublishKey::generate();
        let key_hash = key.hash().to_string();
        let replaces = last.is_some_and(|last| key_of(&last.event).is_some());
        let event = if replaces {
            publish_key::Event::Rotated(publish_key::Rotated {
                key_hash: key_hash.clone(),
            })
        } else {
            publish_key::Event::Issued(publish_key::Issued {
                key_hash: key_hash.clone(),
            })
        };
        let event = pb::PublishKey { event: Some(event) };
        let receipt = self
            .publish(id, event.into(), change, conditions.if_match, conditions)
            .await?;
        // A duplicate is this entry, stored by an attempt whose ack was lost, or
        // that of an earlier request, whose key is another one.
        let stored = if receipt.duplicate {
            let last = self.log.last(Kind::PublishKey, id).await?;
            last.is_some_and(|last| key_of(&last.event) == Some(&*key_hash))
        } else {
            true
        };
        Ok(Rotated {
            sequence: receipt.sequence,
            key: stored.then_some(key),
        })
    }

    /// Voids the publish key. Voiding none changes nothing.
    pub(crate) async fn revoke(&self, id: BroadcastId, conditions: &Conditions) -> Result<u64, Problem> {
        self.registered(id).await?;
        let change = conditions.change(id, "revoke", b"");
        if let Some(made) = self.made_before(Kind::PublishKey, id, change.as_ref()).await? {
            return Ok(made);
        }
        if let Some(last) = self.log.last(Kind::PublishKey, id).await?
            && key_of(&last.event).is_none()
            && conditions
                .if_match
                .is_none_or(|wanted| wanted == last.position.sequence)
        {
            return Ok(last.position.sequence);
        }
        let event = pb::PublishKey {
            event: Some(publish_key::Event::Revoked(publish_key::Revoked {})),
        };
        Ok(self
            .publish(id, event.into(), change, conditions.if_match, conditions)
            .await?
            .sequence)
    }

    /// Deletes a broadcast for good.
    pub(crate) async fn delete(&self, id: BroadcastId, conditions: &Conditions) -> Result<u64, Problem> {
        let change = conditions.change(id, "delete", b"");
        if let Some(change) = &change
            && let Some(last) = self.log.last(Kind::Registration, id).await?
            && change.relation(&last.id) == Relation::Same
        {
            return Ok(last.position.sequence);
        }
        let (created, sequence) = self.registered(id).await?;
        let deleted = registration::Deleted {
            owner: created.owner,
            created_at: created.created_at,
            deleted_at: Some(timestamp(Utc::now())),
        };
        let event = pb::Registration {
            event: Some(registration::Event::Deleted(deleted)),
        };
        let expected = conditions.if_match.or(Some(sequence));
        match self.publish(id, event.into(), change, expected, conditions).await {
            // Without a condition of the caller's, only another deletion can have come first.
            Err(problem) if problem.code == Code::VersionConflict && conditions.if_match.is_none() => {
                Err(Problem::no_broadcast())
            }
            outcome => Ok(outcome?.sequence),
        }
    }

    async fn publish(
        &self,
        id: BroadcastId,
        event: Event,
        change: Option<ChangeId>,
        expected: Option<u64>,
        conditions: &Conditions,
    ) -> Result<Receipt, Problem> {
        let kind = event.kind();
        let mut draft = Draft::new(id, event).traceparent(conditions.traceparent.clone());
        if let Some(change) = change {
            draft = draft.id(change.into_entry_id());
        }
        if let Some(expected) = expected {
            draft = draft.expect_last(expected);
        }
        match self.publisher.publish(draft).await {
            Ok(receipt) => {
                tracing::info!(broadcast_id = %id, kind = %kind, seq = receipt.sequence, "broadcast changed");
                Ok(receipt)
            }
            Err(PublishError::Conflict { expected, .. }) => {
                let current = self.log.last(kind, id).await?.map_or(0, |last| last.position.sequence);
                Err(Problem::new(
                    Code::VersionConflict,
                    format!("If-Match names version {expected} of {kind}, and the current one is {current}"),
                ))
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// The hash of the key that an entry makes valid.
fn key_of(event: &Event) -> Option<&str> {
    match event {
        Event::PublishKey(pb::PublishKey {
            event: Some(publish_key::Event::Issued(e)),
        }) => Some(&e.key_hash),
        Event::PublishKey(pb::PublishKey {
            event: Some(publish_key::Event::Rotated(e)),
        }) => Some(&e.key_hash),
        _ => None,
    }
}
