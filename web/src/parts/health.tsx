// The health of an encoder: three graphs on one clock, what to do about them,
// and the same in words and as a table. Loaded with uPlot when first shown.
import { Fragment, useEffect, useRef } from "react";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { type BroadcastState, health, type HealthSample } from "../api";
import { advice, type Gap, gaps, lines } from "../health";
import { useSpeech } from "../i18n";
import { useNow, usePolled } from "../poll";
import { Failure, Loading, StaleWarning } from "./states";

const refreshMs = 5000;
const minutes = 15;
const tableRows = 12;
// Of an encoder that comes and goes all the time, the last ones say enough.
const saidGaps = 3;
const graphs = ["bitrate", "frame_rate", "keyframes"] as const;

export function HealthGraph({ id, state }: { id: string; state: BroadcastState }) {
  const { t, language } = useSpeech();
  const now = useNow();
  const { data, error, refresh } = usePolled(id, (signal) => health(id, minutes, signal), refreshMs);
  if (data === undefined) return error ? <Failure error={error} retry={refresh} /> : <Loading retry={refresh} />;
  const live = state === "live" || state === "interrupted";
  const last = data.at(-1);
  if (!last) return <p className="notice">{t("health.idle")}</p>;

  const { time, bitrate, frameRate, keyframes } = lines(data);
  const values = { bitrate, frame_rate: frameRate, keyframes };
  const clock = new Intl.DateTimeFormat(language, { timeStyle: "medium" });
  const interval = ({ keyframe_interval_ms: ms }: HealthSample) =>
    ms > 0 ? `${(ms / 1000).toFixed(1)} ${t("health.unit.keyframes")}` : t("health.keyframes.none");
  const found = advice(data, live, now);
  const away = gaps(data);
  const said = ({ from, to }: Gap) =>
    t("health.gap.at", { from: clock.format(from), to: clock.format(to), seconds: Math.round((to - from) / 1000) });
  return (
    <div className="health" data-samples={data.length} data-gaps={away.length}>
      {error && <StaleWarning retry={refresh} />}
      {found.length > 0 && (
        <ul className="advice" aria-label={t("health.advice")} aria-live="polite">
          {found.map((one) => (
            <li key={one.key} data-advice={one.key} className={one.key === "health.good" ? "advice-good" : "advice-bad"}>
              {t(one.key, "values" in one ? one.values : {})}
            </li>
          ))}
        </ul>
      )}
      <div className="graphs">
        {graphs.map((name) => (
          <figure key={name} data-graph={name}>
            <figcaption>
              {t(`health.${name}`)} <span className="hint">{t(`health.unit.${name}`)}</span>
            </figcaption>
            <Graph time={time} values={values[name]} gaps={away} />
          </figure>
        ))}
      </div>
      <p className="hint">
        {t("health.summary", {
          time: clock.format(Date.parse(last.at)),
          bitrate: Math.round(last.bitrate / 1000),
          frames: (last.frame_rate_milli / 1000).toFixed(1),
          keyframes: interval(last),
        })}{" "}
        {away.length === 0 ? t("health.gap.none") : t("health.gap")}
      </p>
      {away.length > 0 && (
        <ul className="hint gaps" aria-label={t("health.gaps")}>
          {away.slice(-saidGaps).map((gap) => (
            <li key={gap.from}>{said(gap)}</li>
          ))}
        </ul>
      )}
      <details>
        <summary>{t("health.table")}</summary>
        <div className="scrolled" tabIndex={0} role="region" aria-label={t("health.table")}>
          <table>
            <thead>
              <tr>
                <th scope="col">{t("health.time")}</th>
                <th scope="col">{t("health.bitrate")}</th>
                <th scope="col">{t("health.frame_rate")}</th>
                <th scope="col">{t("health.keyframes")}</th>
                <th scope="col">{t("health.dropped")}</th>
                <th scope="col">{t("health.drift")}</th>
              </tr>
            </thead>
            <tbody>
              {data
                .slice(-tableRows)
                .reverse()
                .map((sample) => {
                  const gap = away.find(({ to }) => to === Date.parse(sample.at));
                  return (
                    <Fragment key={sample.at}>
                      <tr>
                        <th scope="row">{clock.format(Date.parse(sample.at))}</th>
                        <td>{Math.round(sample.bitrate / 1000)} kbit/s</td>
                        <td>{(sample.frame_rate_milli / 1000).toFixed(1)}</td>
                        <td>{interval(sample)}</td>
                        <td>{sample.dropped}</td>
                        <td>{sample.av_drift_ms} ms</td>
                      </tr>
                      {gap && (
                        <tr className="gap">
                          <td colSpan={6}>{said(gap)}</td>
                        </tr>
                      )}
                    </Fragment>
                  );
                })}
            </tbody>
          </table>
        </div>
      </details>
    </div>
  );
}

const height = 140;
// Graphs of one page share the place of the pointer.
const sync = uPlot.sync("health");

/** Marks the gaps, of which a short one is hardly seen as a missing piece of the line. */
function shade({ ctx, bbox, valToPos }: uPlot, gaps: Gap[], colour: string) {
  const place = (ms: number) => Math.min(Math.max(valToPos(ms / 1000, "x", true), bbox.left), bbox.left + bbox.width);
  ctx.save();
  ctx.fillStyle = colour;
  for (const { from, to } of gaps) ctx.fillRect(place(from), bbox.top, place(to) - place(from), bbox.height);
  ctx.restore();
}

function Graph({ time, values, gaps }: { time: number[]; values: (number | null)[]; gaps: Gap[] }) {
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot>(null);
  const latest = useRef<uPlot.AlignedData>([time, values]);
  const empty = useRef(gaps);

  useEffect(() => {
    latest.current = [time, values];
    empty.current = gaps;
    plot.current?.setData([time, values]);
  });
  useEffect(() => {
    const holder = box.current;
    if (!holder) return;
    const draw = () => {
      plot.current?.destroy();
      const colour = (name: string) => getComputedStyle(holder).getPropertyValue(name).trim();
      const axis = { stroke: colour("--ink-soft"), grid: { stroke: colour("--line") }, ticks: { stroke: colour("--line") } };
      plot.current = new uPlot(
        {
          width: holder.clientWidth,
          height,
          legend: { show: false },
          cursor: { sync: { key: sync.key }, drag: { x: false, y: false } },
          scales: { y: { range: (_, __, highest) => [0, Math.max(highest * 1.1, 0.1)] } },
          axes: [{ ...axis, size: 28, space: 70, values: [[1, "{HH}:{mm}:{ss}", null, null, null, null, null, null, 0]] }, { ...axis, size: 48, space: 28 }],
          hooks: { drawClear: [(drawn) => shade(drawn, empty.current, colour("--waiting-wash"))] },
          series: [{}, { stroke: colour("--act"), width: 2, spanGaps: false, points: { size: 4 } }],
        },
        latest.current,
        holder,
      );
    };
    draw();
    const resized = new ResizeObserver(() => plot.current?.setSize({ width: holder.clientWidth, height }));
    resized.observe(holder);
    const dark = window.matchMedia("(prefers-color-scheme: dark)");
    dark.addEventListener("change", draw);
    return () => {
      resized.disconnect();
      dark.removeEventListener("change", draw);
      plot.current?.destroy();
      plot.current = null;
    };
  }, []);
  // The same is said in words and as a table.
  return <div ref={box} className="graph" aria-hidden="true" />;
}
