// The player as it stands on the watch page: the picture, what to say over it,
// and the controls that the browser's own do not have.
import { useEffect, useRef, useState } from "react";
import type { BroadcastState } from "../api";
import { useSpeech } from "../i18n";
import { Player, type PlayerView } from "../player";

interface Props {
  url: string;
  state: BroadcastState;
}

export function Stage({ url, state }: Props) {
  const { t } = useSpeech();
  const video = useRef<HTMLVideoElement>(null);
  const player = useRef<Player>(null);
  const [view, setView] = useState<PlayerView>();

  useEffect(() => {
    if (!video.current) return;
    const mine = new Player(video.current, url, setView);
    player.current = mine;
    void mine.start();
    return () => {
      mine.destroy();
      player.current = null;
    };
  }, [url]);

  const ended = state === "ended";
  useEffect(() => {
    if (ended) player.current?.finish();
  }, [ended, url]);

  const phase = view?.phase ?? "starting";
  const message = (() => {
    if (phase === "unsupported") return t("watch.unsupported");
    if (ended) return t("watch.ended");
    if (state === "interrupted") return t("watch.reconnecting");
    if (phase === "trouble") return t("watch.trouble");
    if (phase === "starting") return t("watch.preparing");
    return "";
  })();

  return (
    <section className="stage" aria-label={t("watch.player")} data-player={phase}>
      <div className="picture">
        <video ref={video} controls playsInline aria-label={t("watch.player")} />
        <p className="overlay" role="status" hidden={message === ""}>
          {message}
        </p>
        {view?.autoplay === "muted" && !ended && (
          <div className="prompt">
            <span>{t("watch.muted")}</span>
            <button type="button" className="primary" onClick={() => player.current?.unmute()}>
              {t("watch.unmute")}
            </button>
          </div>
        )}
        {view?.autoplay === "blocked" && !ended && (
          <div className="prompt">
            <button type="button" className="primary" onClick={() => player.current?.unmute()}>
              {t("watch.play")}
            </button>
          </div>
        )}
      </div>
      <div className="stage-controls">
        <label>
          {t("watch.quality")}
          <select
            name="quality"
            value={view?.picked ?? -1}
            disabled={!view || view.qualities.length === 0}
            onChange={(event) => player.current?.pick(Number(event.target.value))}
          >
            <option value={-1}>
              {view?.picked === -1 && view.current ? t("watch.auto.now", { quality: view.current }) : t("watch.auto")}
            </option>
            {view?.qualities.map(({ level, label }) => (
              <option key={level} value={level}>
                {label}
              </option>
            ))}
          </select>
        </label>
        {view?.behindLive && (
          <button type="button" onClick={() => player.current?.toLive()}>
            {t("watch.to_live")}
          </button>
        )}
      </div>
    </section>
  );
}
