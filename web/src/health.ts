// What samples of an encoder's health say: lines with gaps where there was no
// encoder, and what to do about it. Pure; time comes in as a value.
import type { HealthSample } from "./api";

export interface Lines {
  /** Seconds since 1970. */
  time: number[];
  /** kbit/s, frames per second and seconds; null = nothing to draw. */
  bitrate: (number | null)[];
  frameRate: (number | null)[];
  keyframes: (number | null)[];
}

/** A time between two samples of which there is nothing to say, in milliseconds since 1970. */
export interface Gap {
  from: number;
  to: number;
}

// A sample that is missing: the next came later than this many lengths of one.
const gapLengths = 2.5;

/** The gap before a sample: the encoder was away, or another session began. */
function gapBefore(sample: HealthSample, before: HealthSample | undefined): Gap | undefined {
  if (!before) return undefined;
  const [from, to] = [Date.parse(before.at), Date.parse(sample.at)];
  const missing = to - from > gapLengths * sample.window_ms;
  return to > from && (missing || before.session_id !== sample.session_id) ? { from, to } : undefined;
}

/** Where the lines have gaps, the oldest first. */
export function gaps(samples: HealthSample[]): Gap[] {
  return samples.flatMap((sample, place) => gapBefore(sample, samples[place - 1]) ?? []);
}

export function lines(samples: HealthSample[]): Lines {
  const drawn: Lines = { time: [], bitrate: [], frameRate: [], keyframes: [] };
  const add = (time: number, sample: HealthSample | undefined) => {
    drawn.time.push(time);
    drawn.bitrate.push(sample ? sample.bitrate / 1000 : null);
    drawn.frameRate.push(sample ? sample.frame_rate_milli / 1000 : null);
    // 0 says that no keyframe was seen, which is no interval.
    drawn.keyframes.push(sample && sample.keyframe_interval_ms > 0 ? sample.keyframe_interval_ms / 1000 : null);
  };
  let before: HealthSample | undefined;
  for (const sample of samples) {
    const time = Date.parse(sample.at) / 1000;
    const last = drawn.time.at(-1);
    if (last !== undefined && before) {
      // Two samples of one moment cannot both be drawn.
      if (time <= last) continue;
      if (gapBefore(sample, before)) add((last + time) / 2, undefined);
    }
    add(time, sample);
    before = sample;
  }
  return drawn;
}

export type Advice =
  | { key: "health.good" }
  | { key: "health.silent"; values: { seconds: number } }
  | { key: "health.keyframe_long"; values: { seconds: string } }
  | { key: "health.frames_lost" | "health.bitrate_low"; values: { now: string; usual: string } }
  | { key: "health.bitrate_unsteady"; values: { low: string; high: string } }
  | { key: "health.server_late"; values: { n: number } }
  | { key: "health.out_of_sync"; values: { ms: number } };

// What is looked at: about the last half minute, against the last quarter of an hour.
const recent = 6;
const silentMs = 20_000;
const longKeyframeMs = 4000;
const fewFrames = 0.8;
const lowBitrate = 0.5;
// Steps between samples by more than this part of the middle, and how many of them make
// it unsteady: one or two are a change of scene.
const swing = 0.4;
const swings = 3;
const driftMs = 150;

/** What a broadcaster should do, the most pressing first. */
export function advice(samples: HealthSample[], live: boolean, now: number): Advice[] {
  const last = samples.at(-1);
  if (!last) return [];
  const silent = now - Date.parse(last.at);
  if (silent > silentMs) return live ? [{ key: "health.silent", values: { seconds: Math.round(silent / 1000) } }] : [];
  const session = samples.filter((sample) => sample.session_id === last.session_id);
  const newest = session.slice(-recent);
  const of = (read: (sample: HealthSample) => number) => ({
    now: median(newest.map(read)),
    usual: median(session.map(read)),
  });
  const found: Advice[] = [];
  const rate = of((sample) => sample.bitrate / 1000);
  if (rate.now < rate.usual * lowBitrate) {
    found.push({ key: "health.bitrate_low", values: { now: rate.now.toFixed(0), usual: rate.usual.toFixed(0) } });
  }
  const rates = newest.map((sample) => sample.bitrate / 1000);
  const steps = rates.slice(1).filter((now, place) => Math.abs(now - (rates[place] ?? now)) > swing * rate.now);
  if (found.length === 0 && steps.length >= swings) {
    const [low, high] = [Math.min(...rates).toFixed(0), Math.max(...rates).toFixed(0)];
    found.push({ key: "health.bitrate_unsteady", values: { low, high } });
  }
  const frames = of((sample) => sample.frame_rate_milli / 1000);
  if (frames.now < frames.usual * fewFrames) {
    found.push({ key: "health.frames_lost", values: { now: frames.now.toFixed(1), usual: frames.usual.toFixed(1) } });
  }
  const keyframe = Math.max(...newest.map((sample) => sample.keyframe_interval_ms));
  if (keyframe > longKeyframeMs) {
    found.push({ key: "health.keyframe_long", values: { seconds: (keyframe / 1000).toFixed(1) } });
  }
  const dropped = newest.reduce((sum, sample) => sum + sample.dropped, 0);
  if (dropped > 0) found.push({ key: "health.server_late", values: { n: dropped } });
  const drift = median(newest.map((sample) => sample.av_drift_ms));
  if (Math.abs(drift) > driftMs) found.push({ key: "health.out_of_sync", values: { ms: Math.abs(drift) } });
  return found.length > 0 ? found : [{ key: "health.good" }];
}

function median(values: number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor((sorted.length - 1) / 2)] ?? 0;
}
