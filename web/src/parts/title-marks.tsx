// The marks of the time line as a list: where the title changed, to go there
// without aiming at a line of two pixels.
import { elapsedSeconds } from "../format";
import { useSpeech } from "../i18n";
import type { PlayerView } from "../player";
import type { Mark } from "./timeline";

interface Props {
  view: PlayerView;
  marks: Mark[];
  onSeek: (at: number) => void;
}

export function TitleMarks({ view, marks, onSeek }: Props) {
  const { t } = useSpeech();
  const within = marks.filter((mark) => mark.at > view.from && mark.at <= view.to);
  if (within.length === 0) return null;
  return (
    <details className="marks">
      <summary>{t("watch.marks", { n: within.length })}</summary>
      <ol>
        {within.map((mark) => (
          <li key={mark.at}>
            <button type="button" className="quiet" onClick={() => onSeek(mark.at)}>
              <span className="marks-time">−{elapsedSeconds(view.to - mark.at)}</span> <span dir="auto">{mark.title}</span>
            </button>
          </li>
        ))}
      </ol>
    </details>
  );
}
