import { describe, expect, it } from "vitest";
import { noteDate, serverNow } from "./clock";

const at = (ms: number) => new Date(ms).toUTCString();

describe("the server's clock", () => {
  it("is this one's while nothing speaks against it", () => {
    const now = Date.now();
    noteDate(null, now, now);
    noteDate("no date", now, now);
    noteDate(at(now), now, now + 20);
    expect(Math.abs(serverNow() - Date.now())).toBeLessThan(50);
  });

  it("is what answers say when this one is wrong", () => {
    const now = Date.now();
    noteDate(at(now + 60_000), now, now + 20);
    expect(serverNow() - Date.now()).toBeGreaterThan(58_900);
    expect(serverNow() - Date.now()).toBeLessThan(60_100);
  });
});
