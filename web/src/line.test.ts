import { describe, expect, it } from "vitest";
import { Line, type LineSight, type Load, type Turn } from "./line";

const slowLoad = { took: 0.4, plays: 0.2 };
const well: LineSight = { slow: false, waits: false, more: true, underWay: undefined, brings: 2_000_000, lightest: 1_000_000 };
const starves = { ...well, waits: true, underWay: slowLoad };
const listens = { ...well, slow: true };

/** Looks twice a second for some seconds; what was to be done, and when. */
function over(line: Line, seconds: number, sight: (second: number) => LineSight): [number, Turn][] {
  const done: [number, Turn][] = [];
  for (let second = 0.5; second <= seconds; second += 0.5) {
    const turn = line.look(sight(second), 500);
    if (turn !== "stay") done.push([second, turn]);
  }
  return done;
}

/** Seconds of a fast line until the picture is tried again, on one that has just starved it. */
function returns(line: Line): number {
  line.forget();
  expect(over(line, 4, () => starves)).toEqual([[4, "sound"]]);
  for (let second = 0.5; second <= 600; second += 0.5) {
    if (line.look(listens, 500) === "picture") return second;
  }
  return Infinity;
}

describe("a line", () => {
  it("is good for the sound alone once it has let a picture wait for 4 s", () => {
    expect(over(new Line(), 4, () => starves)).toEqual([[4, "sound"]]);
    expect(over(new Line(), 3.5, () => starves)).toEqual([]);
  });

  it.each([
    [5, []],
    [4, [[49, "sound"]]],
  ])("is so as well if it starves a picture for one second of less than five: here of %d", (period, turns) => {
    const sight = (second: number) => ((second - 0.5) % period < 1 ? starves : well);
    expect(over(new Line(), 60, sight)).toEqual(turns);
  });

  it("is not to blame where there is no more than is here", () => {
    expect(over(new Line(), 60, () => ({ ...starves, more: false }))).toEqual([]);
  });

  it("is not to blame where media is loaded in less time than it plays", () => {
    const fed = (each: Load, count: number) => {
      const line = new Line();
      for (let n = 0; n < count; n += 1) line.loaded(each);
      return line;
    };
    const waits = { ...starves, underWay: undefined };
    const quick = { took: 0.05, plays: 0.2 };
    expect(over(fed(quick, 20), 60, () => waits)).toEqual([]);
    // Under way for a moment.
    expect(over(fed(quick, 20), 60, () => ({ ...waits, underWay: { took: 0.19, plays: 0.2 } }))).toEqual([]);
    expect(over(fed({ took: 0.15, plays: 0.2 }, 20), 60, () => waits)).toEqual([]);
    expect(over(fed({ took: 0.17, plays: 0.2 }, 20), 4, () => waits)).toEqual([[4, "sound"]]);
    expect(over(fed({ took: 3, plays: 2 }, 1), 4, () => waits)).toEqual([[4, "sound"]]);
  });

  it("is judged by the last seconds of media", () => {
    const waits = { ...starves, underWay: undefined };
    const line = new Line();
    for (const load of [slowLoad, { took: 0.1, plays: 2 }]) for (let n = 0; n < 20; n += 1) line.loaded(load);
    expect(over(line, 60, () => waits)).toEqual([]);
    line.loaded({ took: 4, plays: 2 });
    expect(over(line, 4, () => waits)).toEqual([[4, "sound"]]);
    for (let n = 0; n < 10; n += 1) line.loaded({ took: 0.05, plays: 0.2 });
    // What has been asked for and does not come.
    expect(over(line, 4, () => ({ ...waits, underWay: { took: 3, plays: 0.2 } }))).toEqual([[4, "sound"]]);
  });

  it("is tried with a picture again after 15 s with half as much again as that needs", () => {
    expect(over(new Line(), 15, () => listens)).toEqual([[15, "picture"]]);
    expect(over(new Line(), 60, () => ({ ...listens, brings: 1_500_000 }))).toEqual([]);
    expect(over(new Line(), 60, () => ({ ...listens, waits: true }))).toEqual([]);
    const slowOnce = (second: number) => (second === 10 ? { ...listens, brings: 0 } : listens);
    expect(over(new Line(), 25, slowOnce)).toEqual([[25, "picture"]]);
  });

  it("is tried less and less often where the picture does not hold", () => {
    const line = new Line();
    const seconds = [1, 2, 3, 4, 5, 6].map(() => returns(line));
    expect(seconds).toEqual([15, 30, 60, 120, 240, 300]);
  });

  it("is tried as at first once a picture has held for two minutes", () => {
    const line = new Line();
    [returns(line), returns(line), returns(line)];
    over(line, 119.5, () => well);
    over(line, 0.5, () => starves);
    over(line, 119.5, () => well);
    expect(returns(line)).toBe(120);
    // Neither a pause nor an encoder that sends nothing makes it hold, or not hold.
    over(line, 119, () => well);
    line.forget();
    over(line, 60, () => ({ ...starves, more: false }));
    over(line, 0.5, () => well);
    expect(returns(line)).toBe(240);
    over(line, 119, () => well);
    line.forget();
    over(line, 60, () => ({ ...starves, more: false }));
    over(line, 1, () => well);
    expect(returns(line)).toBe(15);
  });

  it("is judged anew once what was seen is forgotten", () => {
    const line = new Line();
    over(line, 3.5, () => starves);
    line.forget();
    expect(over(line, 3.5, () => starves)).toEqual([]);
    over(line, 14.5, () => listens);
    line.forget();
    expect(over(line, 14.5, () => listens)).toEqual([]);
  });
});
