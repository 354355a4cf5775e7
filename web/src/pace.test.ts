import { describe, expect, it } from "vitest";
import { faster, paced } from "./pace";

const part = 0.2;
const target = 0.6;

/** Plays for some seconds; where the player is then, and the least that was loaded. */
function play(behind: number, seconds: number, ahead = behind): { behind: number; least: number; rate: number } {
  const step = 0.05;
  let [rate, least] = [1, Infinity];
  for (let at = 0; at < seconds; at += step) {
    // Whole parts are loaded as they are made.
    const loaded = ahead - (at % part);
    rate = paced({ behind, target, ahead: loaded, part }, rate);
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
    expect(paced({ behind: 30, target, ahead: 20, part }, 1)).toBe(1);
    expect(paced({ behind: 8, target: 6, ahead: 8, part: 0 }, 1)).toBe(1);
  });

  it("hurries until it is there", () => {
    const place = { behind: target + 0.1, target, ahead: 0.6, part };
    expect(paced(place, 1)).toBe(1);
    expect(paced(place, faster)).toBe(faster);
  });
});
