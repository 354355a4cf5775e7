// What a viewer does with the picture, by pointer or keyboard.
import { useEffect, useRef } from "react";
import { elapsedSeconds } from "../format";
import { useSpeech } from "../i18n";
import { audioOnly, type Player, type PlayerView } from "../player";
import { type Command, commandOf } from "../shortcuts";
import { Icon } from "./icon";

const stepSeconds = 5;
const volumeStep = 0.1;

interface Props {
  player: Player;
  view: PlayerView;
  onFullscreen: () => void;
}

export function Controls({ player, view, onFullscreen }: Props) {
  const { t } = useSpeech();
  const help = useRef<HTMLDialogElement>(null);
  const silent = view.muted || view.volume === 0;

  useEffect(() => {
    const does: Record<Command, () => void> = {
      toggle: () => player.toggle(),
      mute: () => player.toggleMuted(),
      fullscreen: onFullscreen,
      back: () => player.seekBy(-stepSeconds),
      forward: () => player.seekBy(stepSeconds),
      louder: () => player.setVolume(view.volume + volumeStep),
      quieter: () => player.setVolume(view.volume - volumeStep),
      live: () => player.toLive(),
      help: () => help.current?.showModal(),
    };
    const press = (event: KeyboardEvent) => {
      if (help.current?.open) return;
      const command = commandOf(event);
      if (!command) return;
      // The page must not scroll as well.
      event.preventDefault();
      does[command]();
    };
    document.addEventListener("keydown", press);
    return () => document.removeEventListener("keydown", press);
  }, [player, view.volume, onFullscreen]);

  const current = view.listening === "no" ? view.current : t("watch.audio_only");
  const quality = (
    <label className="quality">
      <span className="quality-label">{t("watch.quality")}</span>
      <select
        name="quality"
        value={view.picked}
        disabled={view.qualities.length === 0}
        onChange={(event) => player.pick(Number(event.target.value))}
      >
        <option value={-1}>
          {view.picked === -1 && current ? t("watch.auto.now", { quality: current }) : t("watch.auto")}
        </option>
        {view.qualities.map(({ level, label }) => (
          <option key={level} value={level}>
            {level === audioOnly ? t("watch.audio_only") : label}
          </option>
        ))}
      </select>
    </label>
  );

  return (
    <div className="controls">
      <button type="button" className="icon" aria-label={view.paused ? t("watch.play") : t("watch.pause")} onClick={() => player.toggle()}>
        <Icon name={view.paused ? "play" : "pause"} />
      </button>
      <button
        type="button"
        className="icon"
        aria-label={silent ? t("watch.unmute") : t("watch.mute")}
        onClick={() => (silent && view.volume === 0 ? player.setVolume(1) : player.toggleMuted())}
      >
        <Icon name={silent ? "silent" : "sound"} />
      </button>
      <input
        type="range"
        className="volume"
        name="volume"
        aria-label={t("watch.volume")}
        min={0}
        max={1}
        step={0.05}
        value={view.muted ? 0 : view.volume}
        onChange={(event) => player.setVolume(Number(event.target.value))}
      />
      <span className="controls-gap" />
      {view.recorded && (
        <span className="length">
          {elapsedSeconds(view.at - view.from)} / {elapsedSeconds(view.to - view.from)}
        </span>
      )}
      {view.latency !== undefined && (
        <span className="latency" data-latency={view.latency} title={t("watch.latency.hint")}>
          {t("watch.latency", { time: view.latency < 60 ? `${view.latency.toFixed(1)} s` : elapsedSeconds(view.latency) })}
        </span>
      )}
      {view.behindLive && (
        <button type="button" className="go-live" onClick={() => player.toLive()}>
          {t("watch.to_live")}
        </button>
      )}
      {quality}
      <button type="button" className="icon" aria-label={t("watch.help")} onClick={() => help.current?.showModal()}>
        <Icon name="help" />
      </button>
      <button type="button" className="icon" aria-label={t("watch.fullscreen")} onClick={onFullscreen}>
        <Icon name="fullscreen" />
      </button>
      <dialog ref={help} className="help" aria-labelledby="help-heading">
        <h2 id="help-heading">{t("watch.help")}</h2>
        <dl>
          {(
            [
              ["Space, K", "watch.help.toggle"],
              ["M", "watch.help.mute"],
              ["F", "watch.help.fullscreen"],
              ["← →", "watch.help.seek"],
              ["↑ ↓", "watch.help.volume"],
              ["L", "watch.help.live"],
              ["?", "watch.help.help"],
            ] as const
          ).map(([keys, what]) => (
            <div key={keys}>
              <dt>
                <kbd>{keys}</kbd>
              </dt>
              <dd>{t(what)}</dd>
            </div>
          ))}
        </dl>
        <form method="dialog">
          <button>{t("watch.help.close")}</button>
        </form>
      </dialog>
    </div>
  );
}
