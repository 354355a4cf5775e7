// Where broadcasts are made and edited. The token lives in this tab's session
// storage and goes nowhere but into the Authorization header.
import { type FormEvent, useEffect, useState } from "react";
import { type ApiError, type Ingest, ownBroadcasts } from "../api";
import { useSpeech } from "../i18n";
import { CreateForm } from "../parts/create-form";
import { KeyPanel } from "../parts/key-panel";
import { OwnBroadcast } from "../parts/own-broadcast";
import { Empty, explain, Failure, Loading, StaleWarning, usePageTitle } from "../parts/states";
import { usePolled } from "../poll";
import "../styles/studio.css";

const refreshMs = 3000;
const storageKey = "castlog.token";

function storedToken(): string {
  try {
    return window.sessionStorage.getItem(storageKey) ?? "";
  } catch {
    return "";
  }
}

function storeToken(token: string): void {
  try {
    if (token) window.sessionStorage.setItem(storageKey, token);
    else window.sessionStorage.removeItem(storageKey);
  } catch {
    // Storage is blocked: the token lasts as long as the page.
  }
}

export function StudioPage() {
  const { t } = useSpeech();
  usePageTitle(t("studio.heading"));
  const [token, setToken] = useState(storedToken);
  const [refused, setRefused] = useState<ApiError>();

  const enter = (next: string, why?: ApiError) => {
    storeToken(next);
    setToken(next);
    setRefused(why);
  };

  return (
    <div className="page">
      <div className="page-head">
        <h1>{t("studio.heading")}</h1>
        {token && (
          <button type="button" className="quiet" onClick={() => enter("")}>
            {t("studio.leave")}
          </button>
        )}
      </div>
      {token ? (
        <Desk token={token} onRefused={(why) => enter("", why)} />
      ) : (
        <Gate refused={refused} onEnter={(next) => enter(next)} />
      )}
    </div>
  );
}

function Gate({ refused, onEnter }: { refused: ApiError | undefined; onEnter: (token: string) => void }) {
  const { t } = useSpeech();
  const [text, setText] = useState("");
  const submit = (event: FormEvent) => {
    event.preventDefault();
    if (text.trim() !== "") onEnter(text.trim());
  };
  return (
    <form className="card gate" onSubmit={submit}>
      <h2>{t("studio.gate")}</h2>
      <div className="field">
        <label htmlFor="token">{t("studio.token")}</label>
        <input
          id="token"
          type="password"
          autoComplete="off"
          spellCheck={false}
          required
          value={text}
          aria-describedby="token-hint"
          aria-invalid={refused ? true : undefined}
          onChange={(event) => setText(event.target.value)}
        />
        <p className="hint" id="token-hint">
          {t("studio.gate.hint")}
        </p>
      </div>
      {refused && (
        <p className="form-error" role="alert">
          {explain(refused, t)}
        </p>
      )}
      <button type="submit" className="primary">
        {t("studio.enter")}
      </button>
    </form>
  );
}

export interface IssuedKey {
  id: string;
  title: string;
  key: string;
  ingest: Ingest | undefined;
}

function Desk({ token, onRefused }: { token: string; onRefused: (why: ApiError) => void }) {
  const { t } = useSpeech();
  const { data, error, refresh } = usePolled("own", (signal) => ownBroadcasts(token, signal), refreshMs);
  const [issued, setIssued] = useState<IssuedKey>();

  const refusal = error?.status === 401 ? error : undefined;
  useEffect(() => {
    if (refusal) onRefused(refusal);
  }, [refusal, onRefused]);

  return (
    <>
      {issued && <KeyPanel key={issued.key} issued={issued} onDone={() => setIssued(undefined)} />}
      <CreateForm
        token={token}
        onCreated={({ broadcast, publish_key, ingest }) => {
          setIssued({ id: broadcast.id, title: broadcast.title, key: publish_key, ingest });
          refresh();
        }}
      />
      <section className="own">
        <h2>{t("studio.own")}</h2>
        {data === undefined ? (
          error ? <Failure error={error} retry={refresh} /> : <Loading />
        ) : (
          <>
            {error && <StaleWarning />}
            {data.items.length === 0 && <Empty text={t("studio.own.none")} />}
            <ul className="own-list">
              {data.items.map((broadcast) => (
                <OwnBroadcast
                  key={broadcast.id}
                  token={token}
                  broadcast={broadcast}
                  onChanged={refresh}
                  onKey={setIssued}
                />
              ))}
            </ul>
          </>
        )}
      </section>
    </>
  );
}
