import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { keepRenewed, withTokenOf, withoutToken } from "./token";

describe("a token in a URL", () => {
  const url = (token: string) => `http://edge:8081/t/${token}/live/b/index.m3u8`;

  it("is replaced, where there is one", () => {
    expect(withTokenOf(url("new.1"), url("old.0"))).toBe(url("new.1"));
    expect(withTokenOf("/t/new.1/live/b/index.m3u8", "/t/old.0/media/b/s/source/1-0.m4s")).toBe("/t/new.1/media/b/s/source/1-0.m4s");
    const open = "http://edge:8081/live/b/t/x/index.m3u8";
    expect(withTokenOf(url("new.1"), open)).toBe(open);
    expect(withTokenOf(open, url("old.0"))).toBe(url("old.0"));
  });

  it("is not what tells streams apart", () => {
    expect(withoutToken(url("a"))).toBe(withoutToken(url("b")));
    expect(withoutToken("/t/a/live/b/index.m3u8")).toBe("/live/b/index.m3u8");
  });
});

describe("the renewal of tokens", () => {
  const hour = 3_600_000;
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  it("comes before each ends, for as long as somebody watches", async () => {
    const [used, over] = [[] as { url: string; at: number }[], new AbortController()];
    const [start, now] = [Date.now(), () => Date.now()];
    let asked = 0;
    // Every third answer fails.
    const ask = () => ((asked += 1), asked % 3 === 0 ? Promise.reject(new Error("503")) : Promise.resolve({ url: `${asked}`, ends: now() + hour }));
    void keepRenewed(ask, (url) => used.push({ url, at: now() - start }), now, over.signal);
    await vi.advanceTimersByTimeAsync(24 * hour);
    expect(used.length).toBeGreaterThanOrEqual(24);
    used.slice(1).forEach(({ at }, place) => expect(at - used[place]!.at).toBeLessThan(hour));
    const before = asked;
    over.abort();
    await vi.advanceTimersByTimeAsync(24 * hour);
    expect(asked).toBe(before);
    expect(vi.getTimerCount()).toBe(0);
  });

  it("is asked for again until it is given", async () => {
    const over = new AbortController();
    let [asked, url] = [0, ""];
    const ask = () => ((asked += 1), asked < 4 ? Promise.reject(new Error("away")) : Promise.resolve({ url: "there", ends: Date.now() + hour }));
    void keepRenewed(ask, (given) => (url = given), () => Date.now(), over.signal);
    await vi.advanceTimersByTimeAsync(20_000);
    expect([asked, url]).toEqual([4, "there"]);
    over.abort();
  });
});
