// One broadcast: its player, and its title, tags and state as they change.
import { useState } from "react";
import { broadcast, type Broadcast, type Metadata, type Recording, recordings, titles } from "../api";
import { dateTime, elapsed, elapsedSeconds, languageName, resolution } from "../format";
import { useSpeech } from "../i18n";
import { StateBadge } from "../parts/badge";
import { TagLinks, viewers } from "../parts/cards";
import { Stage } from "../parts/stage";
import { Empty, Failure, Loading, StaleWarning, usePageTitle } from "../parts/states";
import { recordingUrl, usePlaybackUrl } from "../playback";
import { useNow, usePolled } from "../poll";
import { Link, paths, useLocation } from "../router";
import "../styles/watch.css";

const refreshMs = 2000;
// Titles are read again when the newest has changed; this is for what is lost on the way.
const titlesMs = 60_000;
// A session that ends is a recording some seconds later.
const recordingsMs = 10_000;
const noRecordings: Recording[] = [];

export function WatchPage({ id }: { id: string }) {
  const { t } = useSpeech();
  const { data, error, refresh } = usePolled(id, (signal) => broadcast(id, signal), refreshMs);
  const missing = error?.status === 404;
  usePageTitle(missing ? t("watch.missing") : (data?.title ?? ""));

  if (missing) {
    return (
      <div className="page">
        <Empty whole text={t("watch.missing")} hint={t("watch.missing.hint")}>
          <Link className="button" href={paths.live}>
            {t("watch.back")}
          </Link>
        </Empty>
      </div>
    );
  }
  return (
    <div className="page page-watch">
      {data === undefined ? (
        error ? <Failure error={error} retry={refresh} /> : <Loading retry={refresh} />
      ) : (
        <>
          {error && <StaleWarning retry={refresh} />}
          <Watch broadcast={data} />
        </>
      )}
    </div>
  );
}

function Watch({ broadcast: shownNow }: { broadcast: Broadcast }) {
  const { id, title, owner, tags, status, metadata, options, versions } = shownNow;
  const url = usePlaybackUrl(shownNow);
  const { t, language } = useSpeech();
  const now = useNow();
  const marks = usePolled(`${id} ${versions["title"] ?? 0}`, (signal) => titles(id, signal), titlesMs);
  const onAir = status.state === "live" || status.state === "interrupted";
  const session = status.session_id ?? "";
  // Without metadata of this session nothing is produced yet, so there is
  // nothing to load.
  const playable = onAir && metadata?.session_id === session;

  // The player outlives the end of its session: the last seconds play out.
  const [shown, setShown] = useState<{ session: string; url: string }>();
  if (playable && url !== undefined && (shown?.session !== session || shown.url !== url)) setShown({ session, url });
  const staged = shown !== undefined && shown.session === session && (playable || status.state === "ended");

  const kept = usePolled(
    `${id} ${session} ${status.state} ${options.record}`,
    async (signal) => (options.record ? recordings(id, signal) : noRecordings),
    recordingsMs,
  );
  const past = kept.data ?? noRecordings;
  const asked = new URLSearchParams(useLocation().search).get("recording");
  const newest = status.state === "ended" && !staged ? past[0] : undefined;
  const picked = past.find((recording) => recording.session_id === asked) ?? newest;

  return (
    <article data-broadcast-state={status.state}>
      {picked && url !== undefined ? (
        <Stage
          key={picked.session_id}
          url={recordingUrl(url, id, picked.session_id)}
          state={status.state}
          titles={marks.data ?? []}
          recorded
        />
      ) : staged ? (
        <Stage key={shown.session} url={shown.url} state={status.state} titles={marks.data ?? []} />
      ) : (
        <Curtain status={status} />
      )}
      <header className="watch-head">
        <p className="watch-state">
          <StateBadge state={status.state} />
          {onAir && status.started_at && <span className="clock">{elapsed(status.started_at, now)}</span>}
          {onAir && <span className="watch-viewers">{viewers(shownNow.viewers, t, language)}</span>}
          {onAir && picked && <Link href={paths.watch(id)}>{t("watch.to_live")}</Link>}
        </p>
        <h1 dir="auto" aria-live="polite">
          {title}
        </h1>
        <p className="watch-by" dir="auto">
          {t("row.by", { owner })}
        </p>
        <TagLinks tags={tags} />
      </header>
      {status.state === "ended" && status.ended_at && (
        <p>{t("watch.ended.at", { time: dateTime(status.ended_at, language) })}</p>
      )}
      <Recordings id={id} items={past} playing={picked} />
      <About metadata={metadata} category={options.category} spoken={options.language} />
    </article>
  );
}

interface RecordingsProps {
  id: string;
  items: Recording[];
  playing: Recording | undefined;
}

/** What can be watched of earlier sessions. */
function Recordings({ id, items, playing }: RecordingsProps) {
  const { t, language } = useSpeech();
  if (items.length === 0) return null;
  return (
    <section className="recordings">
      <h2>{t("watch.recordings")}</h2>
      <ul>
        {items.map((recording) => {
          const { session_id: session, started_at: from, ended_at: to } = recording;
          return (
            <li key={session}>
              <Link href={paths.recording(id, session)} aria-current={recording === playing ? "true" : undefined}>
                {dateTime(from, language)}
              </Link>
              <span className="length">{elapsedSeconds((Date.parse(to) - Date.parse(from)) / 1000)}</span>
              {recording === playing && <span className="hint">{t("watch.recording.now")}</span>}
            </li>
          );
        })}
      </ul>
    </section>
  );
}

/** In place of the player while there is nothing to play. */
function Curtain({ status }: { status: Broadcast["status"] }) {
  const { t } = useSpeech();
  const text = {
    idle: t("watch.idle"),
    live: t("watch.preparing"),
    interrupted: t("watch.reconnecting"),
    ended: t("watch.ended"),
  }[status.state];
  return (
    <section className="curtain" role="status">
      <p>{text}</p>
      {status.state === "idle" && <p className="hint">{t("watch.idle.hint")}</p>}
    </section>
  );
}

interface AboutProps {
  metadata: Metadata | null | undefined;
  category: string | undefined;
  spoken: string | undefined;
}

function About({ metadata, category, spoken }: AboutProps) {
  const { t, language } = useSpeech();
  const video = metadata?.video;
  const heights = (metadata?.renditions ?? []).filter((rendition) => rendition.height > 0);
  const codecs = [video?.codec, metadata?.audio?.codec].filter((codec) => codec).join(", ");
  const facts: [string, string][] = [];
  if (video) {
    const size = `${video.width}×${video.height}`;
    const rate = video.frame_rate_milli > 0 ? `, ${Number((video.frame_rate_milli / 1000).toFixed(2))} fps` : "";
    facts.push([t("watch.source"), size + rate]);
  }
  if (heights.length > 0) {
    const labels = heights.map((rendition) => resolution(rendition.height, rendition.frame_rate_milli / 1000));
    facts.push([t("watch.renditions"), [...new Set(labels)].join(", ")]);
  }
  if (codecs) facts.push([t("watch.codec"), codecs]);
  if (category) facts.push([t("watch.category"), category]);
  if (spoken) facts.push([t("watch.language"), languageName(spoken, language)]);
  if (facts.length === 0) return null;
  return (
    <section className="about">
      <h2>{t("watch.about")}</h2>
      <dl>
        {facts.map(([term, fact]) => (
          <div key={term}>
            <dt>{term}</dt>
            <dd>{fact}</dd>
          </div>
        ))}
      </dl>
    </section>
  );
}
