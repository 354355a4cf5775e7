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

export function StartForm({ query, go }: Props) {
  const { t } = useSpeech();
  const given = startOf(query.from);
  const [way, setWay] = useState<(typeof ways)[number]>(given?.kind ?? "now");
  const [seq, setSeq] = useState(given?.kind === "seq" ? String(given.seq) : "");
  const [stream, setStream] = useState(oneStream(query) || "LIVE_STREAM");
  const [time, setTime] = useState(given?.kind === "time" ? query.from.slice("time:".length) : localTime(Date.now() - 3600_000));
  const [wrong, setWrong] = useState(false);

  const choose = (next: (typeof ways)[number]) => {
    setWay(next);
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
        <select name="from" value={way} onChange={(event) => choose(event.target.value as (typeof ways)[number])}>
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
            <select name="stream" value={stream} onChange={(event) => setStream(event.target.value)}>
              {streamNames.map((name) => (
                <option key={name} value={name}>
                  {name}
                </option>
              ))}
            </select>
          </label>
          <label className="filter">
            {t("log.seq")}
            <input name="seq" inputMode="numeric" autoComplete="off" value={seq} aria-invalid={wrong || undefined} onChange={(event) => setSeq(event.target.value)} />
          </label>
        </>
      )}
      {way === "time" && (
        <label className="filter">
          {t("log.time")}
          <input name="time" type="datetime-local" step={1} value={time} aria-invalid={wrong || undefined} onChange={(event) => setTime(event.target.value)} />
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
