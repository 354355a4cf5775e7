// Where the explorer begins to read: now, at the beginning, at a sequence of a
// stream, or at a time.
import { type FormEvent, useState } from "react";
import { useSpeech } from "../i18n";
import { type LogQuery, oneStream, startOf, streamNames } from "../log-state";

interface Props {
  query: LogQuery;
  go: (next: LogQuery) => void;
}

const ways = ["now", "all", "seq", "time"] as const;
type Way = (typeof ways)[number];

interface Fields {
  way: Way;
  seq: string;
  stream: string;
  time: string;
}

function fieldsOf(query: LogQuery): Fields {
  const given = startOf(query.from);
  return {
    way: given?.kind ?? "now",
    seq: given?.kind === "seq" ? String(given.seq) : "",
    stream: oneStream(query) || "LIVE_STREAM",
    time: given?.kind === "time" ? query.from.slice("time:".length) : localTime(Date.now() - 3600_000),
  };
}

/** Where reading begins, as the URL has it. */
function placeOf(query: LogQuery): string {
  return `${oneStream(query)} ${query.from}`;
}

export function StartForm({ query, go }: Props) {
  const { t } = useSpeech();
  const asked = fieldsOf(query);
  const [fields, setFields] = useState(asked);
  const [place, setPlace] = useState(placeOf(query));
  const [wrong, setWrong] = useState(false);
  if (place !== placeOf(query)) {
    // Gone elsewhere; the form stays, and with it where the keyboard is.
    setPlace(placeOf(query));
    setFields(asked);
    setWrong(false);
  }
  const { way, seq, stream, time } = fields;
  const change = (part: Partial<Fields>) => setFields({ ...fields, ...part });

  const choose = (next: Way) => {
    change({ way: next });
    setWrong(false);
    if (next === "now" || next === "all") go({ ...query, from: next });
  };
  const submit = (event: FormEvent) => {
    event.preventDefault();
    const from = way === "seq" ? `seq:${seq.trim()}` : `time:${time}`;
    if (!startOf(from)) return setWrong(true);
    if (way === "time") return go({ ...query, from });
    const kept = oneStream(query) === stream;
    go({ ...query, stream, kind: kept ? query.kind : "", from });
  };

  return (
    <form className="start" onSubmit={submit} noValidate>
      <label className="filter">
        {t("log.from")}
        <select name="from" value={way} onChange={(event) => choose(event.target.value as Way)}>
          {ways.map((one) => (
            <option key={one} value={one}>
              {t(`log.from.${one}`)}
            </option>
          ))}
        </select>
      </label>
      {way === "seq" && (
        <>
          <label className="filter">
            {t("log.stream")}
            <select name="stream" value={stream} onChange={(event) => change({ stream: event.target.value })}>
              {streamNames.map((name) => (
                <option key={name} value={name}>
                  {name}
                </option>
              ))}
            </select>
          </label>
          <label className="filter">
            {t("log.seq")}
            <input name="seq" inputMode="numeric" autoComplete="off" value={seq} aria-invalid={wrong || undefined} onChange={(event) => change({ seq: event.target.value })} />
          </label>
        </>
      )}
      {way === "time" && (
        <label className="filter">
          {t("log.time")}
          <input name="time" type="datetime-local" step={1} value={time} aria-invalid={wrong || undefined} onChange={(event) => change({ time: event.target.value })} />
        </label>
      )}
      {(way === "seq" || way === "time") && <button type="submit">{t("log.from.do")}</button>}
      {wrong && (
        <p className="form-error" role="alert">
          {t("log.from.wrong")}
        </p>
      )}
    </form>
  );
}

/** As an input for local times holds it. */
function localTime(ms: number): string {
  const date = new Date(ms - new Date(ms).getTimezoneOffset() * 60_000);
  return date.toISOString().slice(0, 19);
}
