// The publish key, the one time it can be seen, with what an encoder needs
// beside it. Masked at first: studios are often on someone's shared screen.
import { useEffect, useId, useRef, useState } from "react";
import type { Ingest } from "../api";
import { useSpeech } from "../i18n";
import { Link, paths } from "../router";

export interface IssuedKey {
  id: string;
  title: string;
  key: string;
  ingest: Ingest;
}

export function KeyPanel({ issued, onDone }: { issued: IssuedKey; onDone: () => void }) {
  const { t } = useSpeech();
  const { id, title, key, ingest } = issued;
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => {
    heading.current?.focus();
  }, []);

  return (
    <section className="card key-panel" data-issued-for={id}>
      <h2 ref={heading} tabIndex={-1}>
        {t("key.heading")}
      </h2>
      <p className="key-for" dir="auto">
        {title}
      </p>
      <p className="warning">{t("key.once")}</p>
      <Value label={t("key.server")} value={ingest.rtmp_url} name="rtmp-url" />
      {ingest.rtmps_url && <Value label={t("key.server_tls")} value={ingest.rtmps_url} name="rtmps-url" />}
      <Value label={t("key.key")} value={key} name="publish-key" secret />
      <h3>{t("key.obs")}</h3>
      <ObsSteps />
      <div className="actions">
        <button type="button" className="primary" onClick={onDone}>
          {t("key.done")}
        </button>
        <Link className="button" href={paths.watch(id)}>
          {t("studio.watch")}
        </Link>
      </div>
    </section>
  );
}

export function ObsSteps() {
  const { t } = useSpeech();
  return (
    <ol className="steps">
      <li>{t("key.obs.1")}</li>
      <li>{t("key.obs.2")}</li>
      <li>{t("key.obs.3")}</li>
      <li>{t("key.obs.4")}</li>
    </ol>
  );
}

interface ValueProps {
  label: string;
  value: string;
  name: string;
  secret?: boolean;
}

export function Value({ label, value, name, secret = false }: ValueProps) {
  const { t } = useSpeech();
  const inputId = useId();
  const [hidden, setHidden] = useState(secret);
  const [outcome, setOutcome] = useState<"copied" | "failed" | "shown" | "hidden">();

  const copy = async () => setOutcome((await copyText(value)) ? "copied" : "failed");
  const reveal = () => {
    setHidden(!hidden);
    setOutcome(hidden ? "shown" : "hidden");
  };

  return (
    <div className="value">
      <label htmlFor={inputId}>{label}</label>
      <div className="value-line">
        <input
          id={inputId}
          name={name}
          type={hidden ? "password" : "text"}
          autoComplete="off"
          readOnly
          value={value}
          onFocus={(event) => event.target.select()}
        />
        {secret && (
          <button type="button" onClick={reveal}>
            {hidden ? t("key.reveal") : t("key.hide")}
          </button>
        )}
        <button type="button" aria-label={t("key.copy.what", { what: label })} onClick={() => void copy()}>
          {outcome === "copied" ? t("key.copied") : t("key.copy")}
        </button>
      </div>
      <p className="value-outcome" role="status">
        {outcome === "failed" && t("key.copy_failed")}
        {outcome && outcome !== "failed" && (
          <span className="visually-hidden">{t(`key.said.${outcome}`, { what: label })}</span>
        )}
      </p>
    </div>
  );
}

async function copyText(text: string): Promise<boolean> {
  try {
    // Only there in a secure context: https, or the machine itself.
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copyBySelection(text);
  }
}

/** The way that works on plain http in a local network. */
function copyBySelection(text: string): boolean {
  const holder = document.createElement("textarea");
  holder.value = text;
  holder.className = "visually-hidden";
  document.body.append(holder);
  holder.select();
  try {
    return document.execCommand("copy");
  } catch {
    return false;
  } finally {
    holder.remove();
  }
}
