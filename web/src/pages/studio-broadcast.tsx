// One broadcast for who broadcasts it: how to push to it, how its encoder does,
// and what is said of it.
import { lazy, Suspense, useRef, useState } from "react";
import { flushSync } from "react-dom";
import {
  type Broadcast,
  broadcast,
  deleteBroadcast,
  ingest,
  revokeKey,
  rotateKey,
  setOptions,
  setTags,
  setTitle,
} from "../api";
import { useSpeech } from "../i18n";
import { useAction } from "../parts/action";
import { StateBadge } from "../parts/badge";
import { Confirm } from "../parts/confirm";
import { type About, aboutOf, AboutForm, changesOf } from "../parts/fields";
import { type IssuedKey, KeyPanel, ObsSteps, Value } from "../parts/key-panel";
import { useRefusal } from "../parts/members";
import { Empty, Failure, Loading, StaleWarning, usePageTitle } from "../parts/states";
import { usePolled } from "../poll";
import { Link, navigate, paths } from "../router";
import "../styles/forms.css";
import "../styles/studio.css";

const refreshMs = 3000;
// It does not change while the server runs.
const ingestMs = 600_000;

const HealthGraph = lazy(async () => ({ default: (await import("../parts/health")).HealthGraph }));

export function StudioBroadcastPage({ id }: { id: string }) {
  const { t } = useSpeech();
  const { data, error, refresh } = usePolled(id, (signal) => broadcast(id, signal), refreshMs);
  useRefusal(error);
  usePageTitle(data?.title ?? t("studio.heading"));

  return (
    <div className="page page-form">
      <p className="crumbs">
        <Link href={paths.studio}>{t("studio.heading")}</Link>
      </p>
      {error?.status === 404 ? (
        <Empty whole text={t("watch.missing")} hint={t("watch.missing.hint")}>
          <Link className="button" href={paths.studio}>
            {t("studio.own")}
          </Link>
        </Empty>
      ) : data === undefined ? (
        error ? <Failure error={error} retry={refresh} /> : <Loading retry={refresh} />
      ) : (
        <>
          {error && <StaleWarning retry={refresh} />}
          <Desk broadcast={data} refresh={refresh} />
        </>
      )}
    </div>
  );
}

function Desk({ broadcast: shown, refresh }: { broadcast: Broadcast; refresh: () => void }) {
  const { t } = useSpeech();
  const { id, title, status } = shown;

  // What the form began with: what others have changed since is left as they want it.
  const before = useRef(aboutOf(shown));

  const save = async (about: About): Promise<string> => {
    const { title, tags, options } = changesOf(before.current, about);
    if (title !== undefined) await setTitle(id, title);
    if (tags) await setTags(id, tags);
    if (options) await setOptions(id, { ...shown.options, ...options });
    before.current = about;
    refresh();
    return title !== undefined || tags || options ? t("studio.saved") : t("studio.unchanged");
  };

  return (
    <article data-broadcast-state={status.state} className="desk">
      <header className="desk-head">
        <h1 dir="auto">{title}</h1>
        <p className="desk-facts">
          <StateBadge state={status.state} />
          <code>{id}</code>
          <Link href={paths.watch(id)}>{t("studio.watch")}</Link>
        </p>
      </header>
      <section aria-labelledby="setup" className="desk-part">
        <h2 id="setup">{t("studio.setup")}</h2>
        <SetUp broadcast={shown} refresh={refresh} />
      </section>
      <section aria-labelledby="health" className="desk-part">
        <h2 id="health">{t("health.heading")}</h2>
        <Suspense fallback={<Loading />}>
          <HealthGraph id={id} state={status.state} />
        </Suspense>
      </section>
      <section aria-labelledby="details" className="desk-part">
        <h2 id="details">{t("studio.details")}</h2>
        <AboutForm initial={aboutOf(shown)} submit={t("studio.save")} onSubmit={save} />
      </section>
      <Delete id={id} />
    </article>
  );
}

function SetUp({ broadcast: { id, title, publish_key }, refresh }: { broadcast: Broadcast; refresh: () => void }) {
  const { t } = useSpeech();
  const [issued, setIssued] = useState<IssuedKey>();
  const { data: servers } = usePolled("ingest", ingest, ingestMs);
  const { busy, problem, run } = useAction();
  const card = useRef<HTMLDivElement>(null);

  const rotate = () =>
    run(async () => {
      const made = await rotateKey(id);
      setIssued({ id, title, key: made.publish_key ?? "", ingest: made.ingest });
      refresh();
    });
  const revoke = () =>
    run(async () => {
      await revokeKey(id);
      refresh();
      // The button of this goes.
      card.current?.focus();
    });
  const done = () => {
    flushSync(() => setIssued(undefined));
    card.current?.focus();
  };

  if (issued) return <KeyPanel key={issued.key} issued={issued} onDone={done} />;
  return (
    <div className="card" ref={card} tabIndex={-1}>
      {servers && <Value label={t("key.server")} value={servers.rtmp_url} name="rtmp-url" />}
      {servers?.rtmps_url && <Value label={t("key.server_tls")} value={servers.rtmps_url} name="rtmps-url" />}
      <p>{publish_key.state === "revoked" ? t("key.none") : t("key.hidden")}</p>
      {problem && (
        <p className="form-error" role="alert">
          {problem}
        </p>
      )}
      <div className="actions">
        <Confirm
          label={t("studio.rotate")}
          question={t("studio.rotate.confirm")}
          go={t("studio.rotate.do")}
          busy={busy}
          onGo={rotate}
        />
        {publish_key.state !== "revoked" && (
          <Confirm
            label={t("studio.revoke")}
            question={t("studio.revoke.confirm")}
            go={t("studio.revoke.do")}
            busy={busy}
            onGo={revoke}
          />
        )}
      </div>
      <details>
        <summary>{t("key.obs")}</summary>
        <ObsSteps />
      </details>
    </div>
  );
}

function Delete({ id }: { id: string }) {
  const { t } = useSpeech();
  const { busy, problem, run } = useAction();
  const remove = () =>
    run(async () => {
      await deleteBroadcast(id);
      navigate(paths.studio, { replace: true });
    });
  return (
    <section className="desk-part desk-end" aria-label={t("studio.delete")}>
      {problem && (
        <p className="form-error" role="alert">
          {problem}
        </p>
      )}
      <Confirm
        label={t("studio.delete")}
        question={t("studio.delete.confirm")}
        go={t("studio.delete.do")}
        busy={busy}
        grave
        onGo={remove}
      />
    </section>
  );
}
