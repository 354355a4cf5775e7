import { describe, expect, it } from "vitest";
import type { HealthSample } from "./api";
import { advice, gaps, lines } from "./health";

const start = Date.parse("2026-01-01T00:00:00Z");
const sample = (second: number, more: Partial<HealthSample> = {}): HealthSample => ({
  at: new Date(start + second * 1000).toISOString(),
  session_id: "a",
  window_ms: 5000,
  bitrate: 2_000_000,
  frame_rate_milli: 30_000,
  keyframe_interval_ms: 2000,
  dropped: 0,
  av_drift_ms: 0,
  ...more,
});
const steady = (count: number, more: Partial<HealthSample> = {}) =>
  Array.from({ length: count }, (_, place) => sample(place * 5, more));
const keys = (samples: HealthSample[], second: number, live = true) =>
  advice(samples, live, start + second * 1000).map((found) => found.key);

describe("lines of health", () => {
  it("have gaps, not zeros, where there was no encoder", () => {
    const drawn = lines([sample(0), sample(5), sample(60)]);
    expect(drawn.bitrate).toEqual([2000, 2000, null, 2000]);
    expect(drawn.time.every((time, place) => place === 0 || time > (drawn.time[place - 1] ?? 0))).toBe(true);
  });

  it("part sessions, and take no keyframe for an interval of nothing", () => {
    expect(lines([sample(0), sample(5, { session_id: "b" })]).frameRate).toEqual([30, null, 30]);
    expect(lines([sample(0, { keyframe_interval_ms: 0 })]).keyframes).toEqual([null]);
    expect(lines([sample(5), sample(5)]).time).toHaveLength(1);
  });
});

describe("gaps", () => {
  it("are where the lines have them", () => {
    const at = (second: number) => start + second * 1000;
    expect(gaps([sample(0), sample(5), sample(60), sample(65)])).toEqual([{ from: at(5), to: at(60) }]);
    expect(gaps([sample(0), sample(5, { session_id: "b" })])).toEqual([{ from: at(0), to: at(5) }]);
    expect(gaps(steady(20))).toEqual([]);
  });
});

describe("advice", () => {
  it("is that all is well only when it is", () => {
    expect(keys(steady(20), 95)).toEqual(["health.good"]);
    expect(keys([], 0)).toEqual([]);
  });

  it("names what is wrong", () => {
    const worse = (more: Partial<HealthSample>) => [...steady(20), ...steady(6, more).map((one, n) => ({ ...one, at: sample(100 + n * 5).at }))];
    expect(keys(worse({ bitrate: 500_000 }), 126)).toEqual(["health.bitrate_low"]);
    expect(keys(worse({ frame_rate_milli: 12_000 }), 126)).toEqual(["health.frames_lost"]);
    expect(keys(worse({ keyframe_interval_ms: 8000 }), 126)).toEqual(["health.keyframe_long"]);
    expect(keys(worse({ dropped: 3 }), 126)).toEqual(["health.server_late"]);
    expect(keys(worse({ av_drift_ms: -400 }), 126)).toEqual(["health.out_of_sync"]);
  });

  it("tells a bitrate that goes up and down from one that changes once", () => {
    const rates = (...of: number[]) => [...steady(20), ...of.map((mbit, n) => sample(100 + n * 5, { bitrate: mbit * 1e6 }))];
    expect(keys(rates(1, 4, 1, 4, 1, 4), 126)).toEqual(["health.bitrate_unsteady"]);
    expect(keys(rates(2, 3.5, 1.8, 2.2, 3.4, 1.9), 126)).toEqual(["health.bitrate_unsteady"]);
    expect(keys(rates(1.8, 2.2, 1.9, 2.1, 1.8, 2.2), 126)).toEqual(["health.good"]);
    expect(keys(rates(2, 2, 2, 4, 4, 4), 126)).toEqual(["health.good"]);
  });

  it("says when nothing comes, while something should", () => {
    expect(keys(steady(3), 60)).toEqual(["health.silent"]);
    expect(keys(steady(3), 60, false)).toEqual([]);
  });
});
