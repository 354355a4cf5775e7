// Entries that a consumer gave up, handing them to it again, and the record of who did.
import { useState } from "react";
import { type DeadLetter, deadLetter, deadLetters, letterAttempts, redrive } from "../api";
import { dateTime } from "../format";
import { useSpeech } from "../i18n";
import { useAction } from "../parts/action";
import { Attempts } from "../parts/attempts";
import { Confirm } from "../parts/confirm";
import { Code, hexDump } from "../parts/entry-view";
import { LogTabs } from "../parts/log-tabs";
import { useRefusal } from "../parts/members";
import { Empty, Failure, Loading, StaleWarning, usePageTitle } from "../parts/states";
import { usePolled } from "../poll";
import { Link, paths } from "../router";
import "../styles/forms.css";
import "../styles/log.css";

const refreshMs = 5000;
// It grows by what is done here, after which it is read again, and by what others do.
const attemptsMs = 15_000;

export function DeadLettersPage() {
  const { t } = useSpeech();
  usePageTitle(t("log.letters"));
  const { data, error, refresh } = usePolled("letters", deadLetters, refreshMs);
  const attempts = usePolled("attempts", letterAttempts, attemptsMs);
  const [said, setSaid] = useState("");
  useRefusal(error);

  return (
    <div className="page">
      <LogTabs />
      <h1>{t("log.letters")}</h1>
      <p className="hint">{t("log.letters.hint")}</p>
      <p role="status" className="said">
        {said}
      </p>
      {data === undefined ? (
        error ? <Failure error={error} retry={refresh} /> : <Loading retry={refresh} />
      ) : (
        <>
          {error && <StaleWarning retry={refresh} />}
          {data.items.length === 0 ? (
            <Empty text={t("log.letters.none")} hint={t("log.letters.none.hint")}>
              <Link className="button" href={paths.consumers}>
                {t("log.consumers")}
              </Link>
            </Empty>
          ) : (
            <ul className="letters" data-state="results">
              {data.items.map((letter) => (
                <Item
                  key={letter.id}
                  letter={letter}
                  onTried={(applied) => {
                    setSaid(applied ? t("log.redriven", { id: letter.id, consumer: letter.consumer }) : "");
                    if (applied) refresh();
                    attempts.refresh();
                  }}
                />
              ))}
            </ul>
          )}
          {data.left_out > 0 && <p className="hint">{t("log.letters.more", { n: data.left_out })}</p>}
        </>
      )}
      <Attempts polled={attempts} />
    </div>
  );
}

function Item({ letter, onTried }: { letter: DeadLetter; onTried: (applied: boolean) => void }) {
  const { t, language } = useSpeech();
  const { busy, problem, run } = useAction();
  const [whole, setWhole] = useState<DeadLetter>();
  const look = () => run(async () => setWhole(await deadLetter(letter.id)));
  const again = async () => onTried(await run(() => redrive(letter.id)));
  return (
    <li className="card letter" data-letter={letter.id}>
      <h2>
        {t("log.letter", { id: letter.id })} <span className="badge">{letter.consumer}</span>
      </h2>
      <p className="letter-reason">{letter.reason}</p>
      <dl className="facts">
        <div>
          <dt>{t("log.subject")}</dt>
          <dd>
            <code>{letter.subject}</code>
          </dd>
        </div>
        <div>
          <dt>{t("log.entry")}</dt>
          <dd>
            <Link href={paths.event(letter.stream, letter.seq)}>
              {letter.stream} {letter.seq}
            </Link>
          </dd>
        </div>
        <div>
          <dt>{t("log.given_up")}</dt>
          <dd>{dateTime(letter.time, language)}</dd>
        </div>
      </dl>
      {problem && (
        <p className="form-error" role="alert">
          {problem}
        </p>
      )}
      {whole && (
        <Code
          label={t("log.payload")}
          text={whole.data != null ? JSON.stringify(whole.data, null, 2) : hexDump(whole.payload_hex ?? "")}
        />
      )}
      <div className="actions">
        <Confirm
          label={t("log.redrive")}
          question={t("log.redrive.confirm", { consumer: letter.consumer })}
          go={t("log.redrive.do")}
          busy={busy}
          onGo={again}
        />
        {!whole && (
          <button type="button" disabled={busy} onClick={() => void look()}>
            {t("log.payload.show")}
          </button>
        )}
      </div>
    </li>
  );
}
