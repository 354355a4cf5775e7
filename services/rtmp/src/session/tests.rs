//! Every way a session can go.

use super::*;

const WINDOW: Duration = Duration::from_secs(30);
const A: ConnectionId = ConnectionId(1);
const B: ConnectionId = ConnectionId(2);

fn session() -> Session {
    Session {
        id: SessionId::generate(),
        started_at: at(0),
        server: "rtmp-1".into(),
        ingest_url: "http://127.0.0.1:8082/flv/x".into(),
    }
}

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
}

fn publish(connection: ConnectionId, fresh: &Session, take_over: bool) -> Event {
    Event::Publish {
        connection,
        fresh: fresh.clone(),
        take_over,
    }
}

fn lost(connection: ConnectionId) -> Event {
    Event::Lost {
        connection,
        reason: "gone".into(),
    }
}

/// The effects as words, the session as it stands in them.
fn words(effects: &[Effect]) -> Vec<String> {
    effects
        .iter()
        .map(|effect| match effect {
            Effect::Log(status) => match status.event.as_ref().unwrap() {
                status::Event::Started(_) => "started".into(),
                status::Event::Resumed(_) => "resumed".into(),
                status::Event::Interrupted(e) => format!("interrupted: {}", e.reason),
                status::Event::Ended(e) => format!("ended: {}", e.reason),
            },
            Effect::OpenStream(_) => "open".into(),
            Effect::CloseStream(_) => "close".into(),
            Effect::Grant { connection, .. } => format!("grant {}", connection.0),
            Effect::Refuse { connection, refused } => format!("refuse {} {}", connection.0, refused.code),
            Effect::Disconnect { connection, refused } => format!("cut {} {}", connection.0, refused.code),
            Effect::Wake(_) => "wake".into(),
        })
        .collect()
}

fn live() -> (State, Session) {
    let (mut state, fresh) = (State::Idle, session());
    let effects = state.apply(publish(A, &fresh, false), at(0), WINDOW);
    assert_eq!(words(&effects), ["open", "started", "grant 1"]);
    (state, fresh)
}

#[test]
fn an_orderly_end() {
    let (mut state, _) = live();
    assert_eq!(
        words(&state.apply(Event::Stopped { connection: B }, at(1), WINDOW)),
        [""; 0]
    );
    let effects = state.apply(Event::Stopped { connection: A }, at(2), WINDOW);
    assert_eq!(words(&effects), ["ended: the encoder stopped", "close"]);
    assert_eq!(state, State::Idle);
    assert!(
        state.apply(lost(A), at(3), WINDOW).is_empty(),
        "the connection's end says nothing more"
    );
}

#[test]
fn a_session_survives_its_connection() {
    let (mut state, first) = live();
    let effects = state.apply(lost(A), at(10), WINDOW);
    assert_eq!(words(&effects), ["interrupted: gone", "wake"]);
    assert_eq!(effects[1], Effect::Wake(at(40)));
    assert_eq!(
        state.apply(Event::Woken, at(39), WINDOW),
        [Effect::Wake(at(40))],
        "the clock was set back"
    );
    let effects = state.apply(publish(B, &session(), false), at(40), WINDOW);
    assert_eq!(words(&effects), ["resumed", "grant 2"]);
    assert_eq!(state.session(), Some(&first), "the session is the same");
    assert!(
        state.apply(Event::Woken, at(41), WINDOW).is_empty(),
        "the wake-up of the interruption is void"
    );
}

#[test]
fn past_the_window_it_is_over() {
    let (mut state, _) = live();
    state.apply(lost(A), at(10), WINDOW);
    let mut late = state.clone();
    let effects = state.apply(Event::Woken, at(40), WINDOW);
    assert_eq!(
        words(&effects),
        ["ended: the encoder did not come back in time", "close"]
    );
    // The encoder can come before the wake-up does.
    let effects = late.apply(publish(B, &session(), false), at(41), WINDOW);
    let expected = [
        "ended: the encoder did not come back in time",
        "close",
        "open",
        "started",
        "grant 2",
    ];
    assert_eq!(words(&effects), expected);
}

#[test]
fn a_second_encoder_is_refused_or_takes_over() {
    let (mut state, first) = live();
    let before = state.clone();
    assert_eq!(
        words(&state.apply(publish(B, &session(), false), at(1), WINDOW)),
        ["refuse 2 R03"]
    );
    assert_eq!(state, before);
    let effects = state.apply(publish(B, &session(), true), at(2), WINDOW);
    assert_eq!(words(&effects), ["cut 1 R03", "resumed", "grant 2"]);
    assert_eq!(state.session(), Some(&first));
    assert!(
        state.apply(lost(A), at(3), WINDOW).is_empty(),
        "the first one's end changes nothing"
    );
}

#[test]
fn a_cut_ends_the_session_wherever_it_is() {
    let cut = || Event::Cut {
        connection: None,
        refused: Refused::new(Code::KeyRevoked, "rotated"),
    };
    let (mut state, _) = live();
    assert_eq!(
        words(&state.apply(cut(), at(1), WINDOW)),
        ["cut 1 R04", "ended: R04: rotated", "close"]
    );
    let (mut state, _) = live();
    state.apply(lost(A), at(1), WINDOW);
    assert_eq!(
        words(&state.apply(cut(), at(2), WINDOW)),
        ["ended: R04: rotated", "close"]
    );
    assert!(state.apply(cut(), at(3), WINDOW).is_empty());
}

#[test]
fn a_connection_cuts_only_what_it_publishes() {
    let cut = |connection| Event::Cut {
        connection: Some(connection),
        refused: Refused::new(Code::LimitExceeded, "too much"),
    };
    let (mut state, _) = live();
    state.apply(publish(B, &session(), true), at(1), WINDOW);
    let before = state.clone();
    assert!(
        state.apply(cut(A), at(2), WINDOW).is_empty(),
        "another one has taken over"
    );
    assert_eq!(state, before);
    assert_eq!(
        words(&state.apply(cut(B), at(3), WINDOW)),
        ["cut 2 R06", "ended: R06: too much", "close"]
    );
}

#[test]
fn a_restart_picks_sessions_up_from_the_log() {
    let (_, first) = live();
    let open = Open::read(&first.started()).unwrap();
    assert_eq!(
        open,
        Open {
            session: first.clone(),
            deadline: None
        }
    );
    let mut state = State::Idle;
    let effects = state.apply(Event::Recovered(open), at(5), WINDOW);
    assert_eq!(
        words(&effects),
        ["open", "interrupted: the server was restarted", "wake"]
    );

    let Effect::Log(interrupted) = &effects[1] else {
        panic!("not an entry")
    };
    let open = Open::read(interrupted).unwrap();
    assert_eq!(open.deadline, Some(at(35)));
    let mut again = State::Idle;
    let effects = again.apply(Event::Recovered(open.clone()), at(20), WINDOW);
    assert_eq!(
        words(&effects),
        ["open", "wake"],
        "it is interrupted already, and keeps its deadline"
    );
    assert_eq!(
        words(&again.apply(publish(A, &session(), false), at(21), WINDOW)),
        ["resumed", "grant 1"]
    );

    let effects = State::Idle.apply(Event::Recovered(open), at(36), WINDOW);
    assert_eq!(
        words(&effects),
        ["open", "ended: the encoder did not come back in time", "close"]
    );
    assert_eq!(Open::read(&first.ended(at(9), "x")), None);
}
