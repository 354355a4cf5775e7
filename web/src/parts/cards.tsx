// One list of broadcasts, whichever query it came from. A card is one stop for
// the keyboard: all of it leads to its watch page.
import { useState } from "react";
import type { Broadcast, Hit } from "../api";
import { count, dateTime, elapsed, resolution } from "../format";
import { Highlighted } from "../highlight";
import { useSpeech } from "../i18n";
import { useNow } from "../poll";
import { Link, paths } from "../router";

export interface Card {
  id: string;
  /** May carry match marks (see `highlight`). */
  title: string;
  owner: string;
  tags: string[];
  resolutions: number[];
  frameRate: number;
  startedAt: string;
  viewers: number;
  interrupted: boolean;
  thumbnail: string | undefined;
}

export function cardOfHit(hit: Hit): Card {
  return {
    id: hit.id,
    title: hit.highlighted.title || hit.title,
    owner: hit.owner,
    tags: hit.tags,
    resolutions: hit.resolutions,
    frameRate: hit.frame_rate,
    startedAt: hit.started_at ?? "",
    viewers: hit.viewers,
    interrupted: hit.interrupted,
    thumbnail: hit.thumbnail_url ?? undefined,
  };
}

export function cardOfBroadcast(broadcast: Broadcast): Card {
  const heights = (broadcast.metadata?.renditions ?? []).map((rendition) => rendition.height);
  return {
    id: broadcast.id,
    title: broadcast.title,
    owner: broadcast.owner,
    tags: broadcast.tags,
    resolutions: [...new Set(heights)].filter((height) => height > 0).sort((a, b) => b - a),
    frameRate: (broadcast.metadata?.video?.frame_rate_milli ?? 0) / 1000,
    startedAt: broadcast.status.started_at ?? "",
    viewers: broadcast.viewers,
    interrupted: broadcast.status.state === "interrupted",
    thumbnail: broadcast.thumbnail_url ?? undefined,
  };
}

export function Cards({ cards, dimmed }: { cards: Card[]; dimmed?: boolean }) {
  const now = useNow();
  return (
    <ol className="cards" data-state="results" aria-busy={dimmed ? true : undefined}>
      {cards.map((card) => (
        <li key={card.id} className="tile" data-broadcast-id={card.id}>
          <Tile card={card} now={now} />
        </li>
      ))}
    </ol>
  );
}

function Tile({ card, now }: { card: Card; now: number }) {
  const { t, language } = useSpeech();
  return (
    <>
      <div className="thumb">
        <Thumbnail card={card} now={now} />
        <span className={card.interrupted ? "on-air on-air-waiting" : "on-air"}>
          {card.interrupted ? t("state.interrupted") : t("state.live")}
        </span>
        <time className="uptime" dateTime={card.startedAt || undefined} title={dateTime(card.startedAt, language)}>
          {elapsed(card.startedAt, now)}
        </time>
      </div>
      <div className="tile-text">
        <h2 className="tile-title" dir="auto">
          <Link className="tile-link" href={paths.watch(card.id)}>
            <Highlighted text={card.title} />
          </Link>
        </h2>
        <p className="tile-by">
          <span dir="auto">{t("row.by", { owner: card.owner })}</span>
          <span className="tile-viewers">{viewers(card.viewers, t, language)}</span>
        </p>
        {card.tags.length > 0 && (
          <ul className="tags" aria-label={t("watch.tags")}>
            {card.tags.map((tag) => (
              <li key={tag} dir="auto">
                #{tag}
              </li>
            ))}
          </ul>
        )}
        {card.resolutions.length > 0 && (
          <ul className="heights" aria-label={t("search.resolutions")}>
            {card.resolutions.map((height, index) => (
              // The frame rate is the source's, and the source is the highest.
              <li key={height}>{resolution(height, index === 0 ? card.frameRate : 0)}</li>
            ))}
          </ul>
        )}
      </div>
    </>
  );
}

export function viewers(n: number, t: ReturnType<typeof useSpeech>["t"], language: string): string {
  return n === 1 ? t("row.viewers.one") : t("row.viewers", { n: count(n, language) });
}

// The server replaces the picture every few seconds; a card shows a new one this often.
const freshMs = 15_000;
// The first picture of a session takes some seconds to be made.
const firstMs = 8_000;

/** The box has its size before the picture comes, so that nothing moves. */
function Thumbnail({ card, now }: { card: Card; now: number }) {
  const slot = Math.floor(now / freshMs);
  const [broken, setBroken] = useState<number>();
  const early = now - Date.parse(card.startedAt) < firstMs;
  if (card.thumbnail === undefined || early || broken === slot) return <span className="thumb-none" aria-hidden="true" />;
  return (
    <img
      src={`${card.thumbnail}?t=${slot}`}
      alt=""
      width={320}
      height={180}
      decoding="async"
      onError={() => setBroken(slot)}
    />
  );
}

/** In place of cards that are on their way: of their size, so that nothing moves when they come. */
export function CardsToCome() {
  return (
    <ol className="cards" aria-hidden="true">
      {Array.from({ length: 4 }, (_, place) => (
        <li key={place} className="tile tile-to-come">
          <div className="thumb" />
          <div className="tile-text" />
        </li>
      ))}
    </ol>
  );
}

export function TagLinks({ tags, label }: { tags: string[]; label?: string }) {
  const { t } = useSpeech();
  if (tags.length === 0) return null;
  return (
    <ul className="tags" aria-label={label ?? t("watch.tags")}>
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
