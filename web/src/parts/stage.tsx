// The player as it stands on the watch page: the picture, what to say over it,
// the time line and the controls.
import { useCallback, useEffect, useRef, useState } from "react";
import type { BroadcastState, TitleChange } from "../api";
import { useSpeech } from "../i18n";
import { Player, type PlayerView } from "../player";
import { withoutToken } from "../token";
import { Controls } from "./controls";
import { type Mark, Timeline } from "./timeline";
import { TitleMarks } from "./title-marks";

interface Props {
  url: string;
  state: BroadcastState;
  titles: TitleChange[];
  /** It is the recording of a session that is over. */
  recorded?: boolean;
}

export function Stage({ url, state, titles, recorded = false }: Props) {
  const { t } = useSpeech();
  const video = useRef<HTMLVideoElement>(null);
  const stage = useRef<HTMLElement>(null);
  const newest = useRef(url);
  const [player, setPlayer] = useState<Player>();
  const [view, setView] = useState<PlayerView>();

  // Playing goes on over a new token.
  const stream = withoutToken(url);
  useEffect(() => {
    newest.current = url;
    player?.renew(url);
  }, [url, player]);
  useEffect(() => {
    if (!video.current) return;
    const mine = new Player(video.current, newest.current, setView, recorded);
    setPlayer(mine);
    void mine.start();
    return () => {
      mine.destroy();
      setPlayer(undefined);
    };
  }, [stream, recorded]);

  const ended = state === "ended" && !recorded;
  useEffect(() => {
    if (ended) player?.finish();
  }, [ended, player]);

  const interrupted = state === "interrupted" && !recorded;
  useEffect(() => player?.interrupt(interrupted), [interrupted, player]);

  const fullscreen = useCallback(() => {
    if (document.fullscreenElement) void document.exitFullscreen();
    else void stage.current?.requestFullscreen().catch(() => undefined);
  }, []);

  const phase = view?.phase ?? "starting";
  const message = (() => {
    if (phase === "unsupported") return t("watch.unsupported");
    if (ended) return t("watch.ended");
    if (interrupted) return t("watch.reconnecting");
    if (phase === "trouble") return t("watch.trouble");
    if (phase === "starting") return t("watch.preparing");
    if (view?.listening === "slow") return t("watch.slow");
    if (view?.listening === "picked") return t("watch.audio_only");
    return "";
  })();
  const origin = view?.origin;
  const marks: Mark[] =
    origin === undefined ? [] : titles.map(({ title, at }) => ({ title, at: (Date.parse(at) - origin) / 1000 }));

  return (
    <section className="stage" ref={stage} aria-label={t("watch.player")} data-player={phase}>
      <div className="picture">
        <video ref={video} playsInline aria-label={t("watch.player")} onClick={() => player?.toggle()} />
        <p className="overlay" role="status" hidden={message === ""}>
          {message}
        </p>
        {view?.autoplay === "muted" && !ended && (
          <div className="prompt">
            <span>{t("watch.muted")}</span>
            <button type="button" className="primary" onClick={() => player?.unmute()}>
              {t("watch.unmute")}
            </button>
          </div>
        )}
        {view?.autoplay === "blocked" && !ended && (
          <div className="prompt">
            <button type="button" className="primary" onClick={() => player?.unmute()}>
              {t("watch.play")}
            </button>
          </div>
        )}
      </div>
      {player && view ? (
        <>
          <Timeline player={player} view={view} marks={marks} />
          <Controls player={player} view={view} onFullscreen={fullscreen} />
          <TitleMarks view={view} marks={marks} onSeek={(at) => player.seek(at)} />
        </>
      ) : (
        <div className="controls" />
      )}
    </section>
  );
}
