// One list of broadcasts, whichever query it came from.
import { type Broadcast, type Hit } from "../api";
import { count, dateTime, elapsed, resolution } from "../format";
import { Highlighted } from "../highlight";
import { useSpeech } from "../i18n";
import { useNow } from "../poll";
import { Link, paths } from "../router";

export interface Row {
  id: string;
  /** May carry match marks (see `highlight`). */
  title: string;
  owner: string;
  tags: string[];
  resolutions: number[];
  frameRate: number;
  startedAt: string;
  viewers: number | undefined;
  interrupted: boolean;
}

export function rowOfHit(hit: Hit): Row {
  return {
    id: hit.id,
    title: hit.highlighted?.title || hit.title,
    owner: hit.owner,
    tags: hit.tags,
    resolutions: hit.resolutions,
    frameRate: hit.frame_rate,
    startedAt: hit.started_at,
    viewers: hit.viewers,
    interrupted: false,
  };
}

export function rowOfBroadcast(broadcast: Broadcast): Row {
  const heights = (broadcast.metadata?.renditions ?? []).map((rendition) => rendition.height);
  return {
    id: broadcast.id,
    title: broadcast.title,
    owner: broadcast.owner,
    tags: broadcast.tags,
    resolutions: [...new Set(heights)].filter((height) => height > 0).sort((a, b) => b - a),
    frameRate: (broadcast.metadata?.video?.frame_rate_milli ?? 0) / 1000,
    startedAt: broadcast.status.started_at ?? "",
    viewers: undefined,
    interrupted: broadcast.status.state === "interrupted",
  };
}

export function Rows({ rows, dimmed }: { rows: Row[]; dimmed?: boolean }) {
  const now = useNow();
  return (
    <ol className="rows" data-state="results" aria-busy={dimmed ? true : undefined}>
      {rows.map((row) => (
        <RowItem key={row.id} row={row} now={now} />
      ))}
    </ol>
  );
}

function RowItem({ row, now }: { row: Row; now: number }) {
  const { t, language } = useSpeech();
  const time = elapsed(row.startedAt, now);
  return (
    <li className="row" data-broadcast-id={row.id}>
      <time
        className={row.interrupted ? "tally tally-interrupted" : "tally"}
        dateTime={row.startedAt || undefined}
        title={dateTime(row.startedAt, language)}
      >
        <span className="tally-state">{row.interrupted ? t("state.interrupted") : t("state.live")}</span> <span>{time}</span>
      </time>
      <div className="row-main">
        <h2 className="row-title" dir="auto">
          <Link href={paths.watch(row.id)}>
            <Highlighted text={row.title} />
          </Link>
        </h2>
        <p className="row-by">
          <span dir="auto">{t("row.by", { owner: row.owner })}</span>
          {row.viewers !== undefined && row.viewers > 0 && (
            <span>{t("row.viewers", { n: count(row.viewers, language) })}</span>
          )}
        </p>
        <TagLinks tags={row.tags} />
      </div>
      {row.resolutions.length > 0 && (
        <ul className="heights" aria-label={t("search.resolutions")}>
          {row.resolutions.map((height, index) => (
            // The frame rate is the source's, and the source is the highest.
            <li key={height}>{resolution(height, index === 0 ? row.frameRate : 0)}</li>
          ))}
        </ul>
      )}
    </li>
  );
}

export function TagLinks({ tags }: { tags: string[] }) {
  const { t } = useSpeech();
  if (tags.length === 0) return null;
  return (
    <ul className="tags" aria-label={t("watch.tags")}>
      {tags.map((tag) => (
        <li key={tag}>
          <Link href={paths.tag(tag)} dir="auto">
            #{tag}
          </Link>
        </li>
      ))}
    </ul>
  );
}
