// The record of what was done with dead letters: who, when, with which, and what came of it.
import { type LetterAttempt, letterAttempts } from "../api";
import { dateTime } from "../format";
import { useSpeech } from "../i18n";
import type { Polled } from "../poll";
import { Link, paths } from "../router";
import { Failure, Loading } from "./states";

export function Attempts({ polled }: { polled: Polled<Awaited<ReturnType<typeof letterAttempts>>> }) {
  const { t } = useSpeech();
  const { data, error, refresh } = polled;
  return (
    <div className="attempts">
      <h2>{t("log.attempts")}</h2>
      <p className="hint">{t("log.attempts.hint")}</p>
      {data === undefined ? (
        error ? <Failure error={error} retry={refresh} /> : <Loading retry={refresh} />
      ) : data.length === 0 ? (
        <p>{t("log.attempts.none")}</p>
      ) : (
        <ol>
          {data.map((attempt) => (
            <Attempt key={attempt.id} attempt={attempt} />
          ))}
        </ol>
      )}
    </div>
  );
}

function Attempt({ attempt }: { attempt: LetterAttempt }) {
  const { t, language } = useSpeech();
  const { letter, deed, outcome, reason, consumer, stream, seq, time, by } = attempt;
  return (
    <li className="attempt" data-attempt={letter} data-outcome={outcome}>
      <p className="attempt-head">
        <strong>{t(`log.deed.${deed}`, { letter })}</strong>
        <span className="badge">{t(`log.outcome.${outcome}`)}</span>
        <time dateTime={time}>{dateTime(time, language, "medium")}</time>
      </p>
      {reason && <p className="letter-reason">{reason}</p>}
      <p className="hint">
        {consumer}, <Link href={paths.event(stream, seq)}>{`${stream} ${seq}`}</Link>. {t("log.attempt.by", { by })}
      </p>
    </li>
  );
}
