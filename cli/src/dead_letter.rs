//! `castlog dead-letter`: entries that a consumer gave up, one by one.

use std::{io::IsTerminal as _, process::ExitCode};

use anyhow::{Context as _, bail};
use castlog_log::{
    Log,
    dead_letter::{self, Attempt, Deed, Filter, Letter, LetterError, Outcome},
    decode_json,
};
use serde_json::{Value, json};

use crate::{
    args::{DeadLetter, Discard, Global, ListAttempts, ListLetters, ShowLetter, WhichLetters},
    config, table,
};

pub(crate) async fn dead_letter(global: &Global, command: &DeadLetter) -> anyhow::Result<ExitCode> {
    let log = config::connect(&config::load(global)?, "castlog dead-letter").await?;
    match command {
        DeadLetter::List(args) => list(&log, args).await,
        DeadLetter::Show(args) => show(&log, args).await,
        DeadLetter::Redrive(which) => redrive(&log, which).await,
        DeadLetter::Discard(args) => discard(&log, args).await,
        DeadLetter::Attempts(args) => attempts(&log, args).await,
    }
}

async fn list(log: &Log, args: &ListLetters) -> anyhow::Result<ExitCode> {
    let (letters, more) = dead_letter::list(log, &filter(&args.consumer, &args.stream), args.limit).await?;
    if args.json {
        for letter in &letters {
            println!("{}", summary(letter));
        }
    } else if letters.is_empty() {
        println!("no dead letters");
    } else {
        let header = ["ID", "WHEN", "STREAM", "SEQ", "CONSUMER", "REASON", "SUBJECT"];
        let mut table = table::new(&header);
        for letter in &letters {
            table.add_row([
                letter.id.to_string(),
                letter.time.format("%Y-%m-%d %H:%M:%S").to_string(),
                letter.position.stream.clone(),
                letter.position.sequence.to_string(),
                letter.consumer.clone(),
                letter.reason.clone(),
                letter.subject.clone(),
            ]);
        }
        println!("{table}");
    }
    if more > 0 {
        eprintln!("{more} more: see --limit");
    }
    Ok(ExitCode::SUCCESS)
}

fn filter(consumer: &Option<String>, stream: &Option<String>) -> Filter {
    Filter {
        consumer: consumer.clone(),
        stream: stream.clone(),
    }
}

fn summary(letter: &Letter) -> Value {
    json!({
        "id": letter.id,
        "time": letter.time,
        "stream": letter.position.stream,
        "seq": letter.position.sequence,
        "consumer": letter.consumer,
        "reason": letter.reason,
        "subject": letter.subject,
    })
}

async fn show(log: &Log, args: &ShowLetter) -> anyhow::Result<ExitCode> {
    let letter = dead_letter::get(log, args.id).await?;
    let decoded = decode_json(&letter.subject, &letter.payload);
    if args.json {
        let mut shown = summary(&letter);
        shown["headers"] = letter
            .headers
            .iter()
            .map(|(name, value)| json!([name, value]))
            .collect();
        match decoded {
            Ok(data) => shown["data"] = data,
            Err(_) => shown["payload_hex"] = hex::encode(&letter.payload).into(),
        }
        println!("{shown:#}");
        return Ok(ExitCode::SUCCESS);
    }
    println!("id:       {}", letter.id);
    println!("when:     {}", letter.time.to_rfc3339());
    println!("entry:    {} {}", letter.position.stream, letter.position.sequence);
    println!("subject:  {}", letter.subject);
    println!("consumer: {}", letter.consumer);
    println!("reason:   {}", letter.reason);
    println!("headers:");
    for (name, value) in &letter.headers {
        println!("  {name}: {value}");
    }
    match decoded {
        Ok(data) => println!("payload:\n{data:#}"),
        Err(error) => println!(
            "payload of {} bytes, not an entry ({error}):\n{}",
            letter.payload.len(),
            beginning(&letter.payload)
        ),
    }
    Ok(ExitCode::SUCCESS)
}

/// The first bytes of what cannot be decoded, as text where they are.
fn beginning(payload: &[u8]) -> String {
    /// A screen full.
    const SHOWN: usize = 1024;
    payload[..payload.len().min(SHOWN)].escape_ascii().to_string()
}

/// The letters that are meant: by their ids, or all that a filter lets through.
async fn chosen(log: &Log, which: &WhichLetters) -> anyhow::Result<Vec<u64>> {
    /// Those beyond wait for another call.
    const ALL: usize = 100_000;
    if !which.all {
        return Ok(which.ids.clone());
    }
    let (letters, more) = dead_letter::list(log, &filter(&which.consumer, &which.stream), ALL).await?;
    if more > 0 {
        eprintln!("{more} more wait for another call");
    }
    Ok(letters.iter().map(|letter| letter.id).collect())
}

/// A letter that is meant; `None` when somebody else has removed it since all were listed.
async fn meant(log: &Log, which: &WhichLetters, id: u64) -> anyhow::Result<Option<Letter>> {
    match dead_letter::get(log, id).await {
        Err(LetterError::Missing(_)) if which.all => Ok(None),
        // A wrong number is told instead of passing for a removed letter.
        found => Ok(Some(found?)),
    }
}

/// How many of the letters somebody else has removed, at the end of a summary.
fn and_gone(gone: usize) -> String {
    match gone {
        0 => String::new(),
        _ => format!(", {gone} gone: somebody else has removed them"),
    }
}

/// What is put on record of who runs this.
fn operator() -> String {
    let user = ["USER", "LOGNAME"]
        .into_iter()
        .find_map(|name| std::env::var(name).ok());
    user.map_or_else(|| "operator".to_owned(), |user| format!("operator {user}"))
}

async fn redrive(log: &Log, which: &WhichLetters) -> anyhow::Result<ExitCode> {
    let (mut applied, mut kept, mut gone) = (0_usize, 0_usize, 0_usize);
    for id in chosen(log, which).await? {
        let Some(letter) = meant(log, which, id).await? else {
            gone += 1;
            continue;
        };
        match dead_letter::redrive(log, &letter, &operator()).await {
            Ok(()) => {
                applied += 1;
                println!("{id}: applied by {}", letter.consumer);
            }
            Err(error) => {
                kept += 1;
                println!("{id}: kept: {error}");
            }
        }
    }
    println!("{applied} applied, {kept} kept{}", and_gone(gone));
    Ok(if kept == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn discard(log: &Log, args: &Discard) -> anyhow::Result<ExitCode> {
    let ids = chosen(log, &args.which).await?;
    if !args.yes && !ids.is_empty() {
        if !std::io::stdin().is_terminal() {
            bail!(
                "{} dead letters would be removed for good: confirm with --yes",
                ids.len()
            );
        }
        eprint!("Remove {} dead letters for good? [y/N] ", ids.len());
        let mut answer = String::new();
        std::io::stdin()
            .read_line(&mut answer)
            .context("cannot read the answer")?;
        if !matches!(answer.trim(), "y" | "Y" | "yes") {
            println!("nothing was removed");
            return Ok(ExitCode::FAILURE);
        }
    }
    let (mut removed, mut gone) = (0_usize, 0_usize);
    for id in ids {
        let Some(letter) = meant(log, &args.which, id).await? else {
            gone += 1;
            continue;
        };
        dead_letter::discard(log, &letter, &operator()).await?;
        removed += 1;
        println!("{id}: removed");
    }
    if gone > 0 {
        println!("{removed} removed{}", and_gone(gone));
    }
    Ok(ExitCode::SUCCESS)
}

async fn attempts(log: &Log, args: &ListAttempts) -> anyhow::Result<ExitCode> {
    let attempts = dead_letter::attempts(log, args.limit.into()).await?;
    if args.json {
        for attempt in &attempts {
            println!("{}", attempt_json(attempt));
        }
        return Ok(ExitCode::SUCCESS);
    }
    if attempts.is_empty() {
        println!("nothing was done with a dead letter");
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = table::new(&["WHEN", "BY", "LETTER", "STREAM", "SEQ", "CONSUMER", "WHAT", "OUTCOME"]);
    for attempt in &attempts {
        table.add_row([
            attempt.time.format("%Y-%m-%d %H:%M:%S").to_string(),
            attempt.by.clone(),
            attempt.letter.to_string(),
            attempt.position.stream.clone(),
            attempt.position.sequence.to_string(),
            attempt.consumer.clone(),
            word(attempt.deed).to_owned(),
            match &attempt.outcome {
                Some(Outcome::Kept { reason }) => format!("kept: {reason}"),
                Some(Outcome::Applied) => "applied".to_owned(),
                Some(Outcome::Discarded) => "discarded".to_owned(),
                _ => "none on record".to_owned(),
            },
        ]);
    }
    println!("{table}");
    Ok(ExitCode::SUCCESS)
}

fn word(deed: Deed) -> &'static str {
    match deed {
        Deed::Redrive => "redrive",
        Deed::Discard => "discard",
        _ => "other",
    }
}

fn attempt_json(attempt: &Attempt) -> Value {
    json!({
        "id": attempt.id,
        "time": attempt.time,
        "by": attempt.by,
        "deed": word(attempt.deed),
        "letter": attempt.letter,
        "stream": attempt.position.stream,
        "seq": attempt.position.sequence,
        "subject": attempt.subject,
        "consumer": attempt.consumer,
        "result": attempt.outcome,
    })
}

#[cfg(test)]
mod tests {
    use castlog_testkit::{NatsOptions, TestLog};

    use super::*;

    #[tokio::test]
    async fn of_all_letters_one_that_is_gone_stops_nothing_and_a_wrong_number_is_told() -> anyhow::Result<()> {
        let test = TestLog::start(NatsOptions::default().lazy_sync()).await?;
        let which = |all| WhichLetters {
            ids: Vec::new(),
            all,
            consumer: None,
            stream: None,
        };
        assert!(meant(&test.log, &which(true), 7).await?.is_none());
        assert!(meant(&test.log, &which(false), 7).await.is_err());
        assert_eq!(and_gone(2), ", 2 gone: somebody else has removed them");
        Ok(())
    }
}
