import { describe, expect, it } from "vitest";
import { arrived, faster, paced } from "./pace";

const part = 0.2;
const target = 0.6;

/** Plays for some seconds; where the player is then, and the least that was loaded. */
function play(behind: number, seconds: number, ahead = behind): { behind: number; least: number; rate: number } {
  const step = 0.05;
  let [rate, least] = [1, Infinity];
  for (let at = 0; at < seconds; at += step) {
    // Whole parts are loaded as they are made.
    const loaded = ahead - (at % part);
    rate = paced({ behind, target, ahead: loaded, part, stays: false }, rate);
    behind -= (rate - 1) * step;
    ahead -= (rate - 1) * step;
    least = Math.min(least, loaded);
  }
  return { behind, least, rate };
}

describe("the pace of a live player", () => {
  it("brings it to its place, and leaves it there", () => {
    const { behind, least, rate } = play(1.6, 60);
    expect(behind).toBeGreaterThan(target);
    expect(behind).toBeLessThan(target + 0.1);
    expect(least).toBeGreaterThan(part);
    expect(rate).toBe(1);
  });

  it("does not empty what is loaded where parts come late", () => {
    const { least } = play(1.6, 60, 0.7);
    expect(least).toBeGreaterThan(part / 2);
  });

  it("leaves a small lag, a viewer who has gone back, and streams without parts alone", () => {
    expect(play(target + 0.15, 60).behind).toBe(target + 0.15);
    expect(paced({ behind: 30, target, ahead: 20, part, stays: true }, 1)).toBe(1);
    expect(paced({ behind: 8, target: 6, ahead: 8, part: 0, stays: false }, 1)).toBe(1);
  });

  it("brings back who fell far behind without wanting it, and who went back a little", () => {
    const far = { behind: 8, target, ahead: 7, part, stays: false };
    expect(paced(far, 1)).toBe(faster);
    expect(play(8, 150).behind).toBeLessThan(target + 0.1);
    expect(paced({ ...far, behind: 3, stays: true }, 1)).toBe(faster);
  });

  it("knows when it has arrived", () => {
    const place = { behind: target + 0.1, target, ahead: 0.6, part, stays: true };
    expect(arrived(place)).toBe(true);
    expect(arrived({ ...place, behind: 3 })).toBe(false);
  });

  it("hurries until it is there", () => {
    const place = { behind: target + 0.1, target, ahead: 0.6, part, stays: false };
    expect(paced(place, 1)).toBe(1);
    expect(paced(place, faster)).toBe(faster);
  });
});
