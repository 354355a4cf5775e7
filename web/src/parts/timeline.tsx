// The time line of a stream: where the picture stands in what can be sought,
// where its title changed, and what is to be seen where the pointer is. It is a
// slider, so that the keyboard has it too.
import { type PointerEvent, useEffect, useRef, useState } from "react";
import { elapsedSeconds } from "../format";
import { useSpeech } from "../i18n";
import type { Player, PlayerView } from "../player";
import { Preview } from "../preview";
import { atDate, atSecond, type Picture, Storyboard } from "../storyboard";

export interface Mark {
  title: string;
  /** Media seconds. */
  at: number;
}

interface Props {
  player: Player;
  view: PlayerView;
  marks: Mark[];
}

export function Timeline({ player, view, marks }: Props) {
  const { t } = useSpeech();
  const [dragged, setDragged] = useState<number>();
  const [pointed, setPointed] = useState<number>();
  const [pictures, setPictures] = useState<Picture[]>([]);
  const held = useRef(false);
  const line = useRef<HTMLDivElement>(null);
  const moving = useRef<HTMLVideoElement>(null);
  const preview = useRef<Preview>(null);
  const board = useRef<Storyboard>(null);
  useEffect(() => {
    return () => {
      preview.current?.destroy();
      preview.current = null;
      board.current = null;
    };
  }, [player.url]);

  // Behind the live edge, so that values stand still while the window moves.
  const length = Math.max(0, view.to - view.from);
  const at = dragged ?? Math.min(0, view.at - view.to);
  // The middle of the slider's handle moves between the halves of its width.
  const place = (behind: number) => {
    const part = length > 0 ? 1 + Math.max(-length, behind) / length : 1;
    return `calc(0.5rem + (100% - 1rem) * ${part.toFixed(4)})`;
  };
  const words = (behind: number) =>
    view.recorded
      ? t("watch.position", { time: elapsedSeconds(length + behind), length: elapsedSeconds(length) })
      : view.behindLive || behind < -1
        ? t("watch.behind", { time: elapsedSeconds(-behind) })
        : t("watch.at_live");

  const pictureOf = (pictures: Picture[], behind: number) => {
    const at = view.to + behind;
    if (view.recorded) return atSecond(pictures, at);
    return view.origin === undefined ? undefined : atDate(pictures, view.origin + at * 1000);
  };
  const picture = pointed === undefined ? undefined : pictureOf(pictures, pointed);

  const point = (event: PointerEvent) => {
    const box = line.current?.getBoundingClientRect();
    if (!box || box.width === 0 || length === 0) return;
    const behind = Math.min(0, ((event.clientX - box.left) / box.width - 1) * length);
    setPointed(behind);
    void look(behind);
  };
  const look = async (behind: number) => {
    board.current ??= new Storyboard(player.url, view.recorded);
    const asked = board.current;
    const found = await asked.look();
    // Meanwhile it may be another stream.
    if (asked !== board.current) return;
    setPictures(found);
    // Where there is no storyboard, the stream itself is loaded at that moment.
    if (pictureOf(found, behind) || !moving.current) return;
    preview.current ??= new Preview(moving.current, player.url);
    void preview.current.show(length + behind);
  };
  const slide = (behind: number) => {
    if (held.current) setDragged(behind);
    else player.seek(view.to + behind);
  };
  const drop = () => {
    held.current = false;
    if (dragged !== undefined) player.seek(view.to + dragged);
    setDragged(undefined);
  };

  return (
    <div className="timeline" ref={line} onPointerMove={point} onPointerLeave={() => setPointed(undefined)}>
      <div className="timeline-track" aria-hidden="true">
        <span className="timeline-past" style={{ width: place(at) }} />
        {marks
          .filter((mark) => mark.at > view.from && mark.at <= view.to)
          .map((mark) => (
            <span key={mark.at} className="timeline-mark" style={{ left: place(mark.at - view.to) }} title={mark.title} />
          ))}
      </div>
      <input
        type="range"
        name="timeline"
        aria-label={t("watch.timeline")}
        aria-valuetext={words(at)}
        min={-Math.floor(length)}
        max={0}
        step={1}
        value={Math.round(at)}
        disabled={length === 0}
        onPointerDown={() => {
          held.current = true;
        }}
        onPointerUp={drop}
        onPointerCancel={drop}
        onChange={(event) => slide(Number(event.target.value))}
      />
      <div className="preview" hidden={pointed === undefined} aria-hidden="true" style={{ left: place(pointed ?? 0) }}>
        {picture && (
          <img
            src={picture.url}
            alt=""
            style={{ width: picture.width, height: picture.height, objectPosition: `-${picture.x}px -${picture.y}px` }}
          />
        )}
        <video ref={moving} muted playsInline tabIndex={-1} style={picture && { display: "none" }} />
        <span>{pointed === undefined ? "" : view.recorded ? elapsedSeconds(length + pointed) : `−${elapsedSeconds(-pointed)}`}</span>
        <span className="preview-title">{titleAt(marks, view.to + (pointed ?? 0))}</span>
      </div>
    </div>
  );
}

function titleAt(marks: Mark[], at: number): string {
  return marks.findLast((mark) => mark.at <= at)?.title ?? "";
}
