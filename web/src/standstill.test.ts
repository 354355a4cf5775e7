import { describe, expect, it } from "vitest";
import { type Remedy, type Sight, Standstill } from "./standstill";

/** Looks twice a second for some seconds; what was to be done, and when. */
function over(still: Standstill, seconds: number, sight: (second: number) => Partial<Sight>): [number, Remedy][] {
  const done: [number, Remedy][] = [];
  for (let second = 0.5; second <= seconds; second += 0.5) {
    const remedy = still.look({ at: 7, loadedTo: 7, edge: undefined, should: true, ...sight(second) }, 500);
    if (remedy !== "none") done.push([second, remedy]);
  }
  return done;
}

const plays = (from: number) => (second: number) => ({ at: from + second, loadedTo: from + second + 1 });

describe("a stream that stands still", () => {
  it("goes to the live edge, and then begins anew, less and less often", () => {
    const done = over(new Standstill(), 120, (second) => ({ edge: 8 + second }));
    expect(done).toEqual([
      [10.5, "edge"],
      [20.5, "anew"],
      [40.5, "anew"],
      [80.5, "anew"],
    ]);
  });

  it("begins anew where the edge is no other place, or is not known", () => {
    for (const edge of [undefined, 7.6]) {
      const done = over(new Standstill(), 11, () => ({ edge }));
      expect(done).toEqual([[10.5, "anew"]]);
    }
  });

  it.each([
    [10, "anew"],
    [70, "edge"],
  ] as const)("is as patient as at first once it has played for %d s, and begins %s", (seconds, remedy) => {
    const still = new Standstill();
    over(still, 45, () => ({ edge: 30 }));
    over(still, seconds, plays(30));
    const at = 30 + seconds;
    const done = over(still, 11, () => ({ at, loadedTo: at, edge: at + 9 }));
    expect(done.map(([, what]) => what)).toEqual([remedy]);
  });

  it("goes on from where it was sought without having played", () => {
    const still = new Standstill();
    over(still, 11, () => ({ edge: 30 }));
    // The seek itself is no sign of life.
    const done = over(still, 11, () => ({ at: 30, loadedTo: 30, edge: 40 }));
    expect(done).toEqual([[10.5, "anew"]]);
  });

  it("is left alone while it plays, loads, is paused, or nobody sends", () => {
    const still = new Standstill();
    expect(over(still, 60, plays(0))).toEqual([]);
    expect(over(still, 60, (second) => ({ at: 60, loadedTo: 60 + second, edge: 130 }))).toEqual([]);
    expect(over(still, 60, () => ({ edge: 130, should: false }))).toEqual([]);
  });
});
