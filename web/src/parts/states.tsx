// What a page shows when it has no answer, an empty one, or none it can trust.
import { type ReactNode, useEffect } from "react";
import type { ApiError } from "../api";
import { type Translate, useSpeech } from "../i18n";
import { CardsToCome } from "./cards";

export function explain(error: ApiError, t: Translate): string {
  switch (error.status) {
    case 0:
      return t("error.network");
    case 401:
      return t("error.unauthorized");
    case 403:
      return t("error.forbidden");
    case 404:
      return t("error.not_found");
    case 429:
      return t("error.limited");
    case 502:
    case 503:
    case 504:
      return t("error.unavailable");
    default:
      return t("error.other", { detail: error.message || String(error.status) });
  }
}

interface Retry {
  retry?: (() => void) | undefined;
}

/** The button comes when waiting has become long. */
export function Loading({ retry }: Retry) {
  const { t } = useSpeech();
  return (
    <div className="loading" data-state="loading">
      <p role="status">{t("state.loading")}</p>
      <button type="button" className="late" onClick={retry ?? (() => window.location.reload())}>
        {t("state.retry")}
      </button>
    </div>
  );
}

/** The same where cards will stand. */
export function ListLoading({ retry }: Retry) {
  return (
    <>
      <Loading retry={retry} />
      <CardsToCome />
    </>
  );
}

export function Failure({ error, retry }: { error: ApiError; retry: () => void }) {
  const { t } = useSpeech();
  return (
    <section className="notice notice-error" role="alert" data-state="error">
      <h2>{t("error.heading")}</h2>
      <p>{explain(error, t)}</p>
      {error.code && <p className="code">{t("error.code", { code: error.code })}</p>}
      <button type="button" onClick={retry}>
        {t("state.retry")}
      </button>
    </section>
  );
}

/** Above a list that could not be refreshed: it still shows, but may be old. */
export function StaleWarning({ retry }: { retry: () => void }) {
  const { t } = useSpeech();
  return (
    <div className="stale-warning" data-state="stale">
      <p role="status">{t("state.stale")}</p>
      <button type="button" onClick={retry}>
        {t("state.retry")}
      </button>
    </div>
  );
}

interface EmptyProps {
  text: string;
  hint?: string;
  /** It is all that the page has to say. */
  whole?: boolean;
  children?: ReactNode;
}

export function Empty({ text, hint, whole = false, children }: EmptyProps) {
  const Heading = whole ? "h1" : "h2";
  return (
    <section className="notice" data-state="empty">
      <Heading>{text}</Heading>
      {hint && <p>{hint}</p>}
      {children}
    </section>
  );
}

/** The window title; the product's name comes last so that tabs stay readable. */
export function usePageTitle(title: string): void {
  useEffect(() => {
    document.title = title ? `${title} · castlog` : "castlog";
  }, [title]);
}
