import { describe, expect, it } from "vitest";
import { eventsUrl, plainLog, readLog, startOf, writeLog } from "./log-state";
import { has, rowOf, wordsOf } from "./tail";

describe("the explorer in the URL", () => {
  it("survives a round trip with every field", () => {
    const query = { stream: "LIVE_STREAM", kind: "status", broadcast: "01m8bxft8220zr35xw6jsg85ct", text: "한강 x", from: "seq:12" };
    expect(readLog(writeLog(query))).toEqual(query);
    expect(writeLog(plainLog)).toBe("");
    expect(readLog("?stream=LEASE&kind=part&from=yesterday")).toEqual(plainLog);
  });

  it("knows where to start", () => {
    expect(startOf("seq:5")).toEqual({ kind: "seq", seq: 5 });
    expect(startOf("time:2026-01-01T00:00Z")).toEqual({ kind: "time", time: new Date("2026-01-01T00:00Z") });
    for (const bad of ["", "seq:0", "seq:x", "time:", "time:x", "later:1"]) expect(startOf(bad)).toBeUndefined();
  });

  it("asks the server for it", () => {
    expect(eventsUrl(plainLog)).toBe("/v1/events");
    expect(eventsUrl({ ...plainLog, kind: "title", from: "seq:5" })).toBe("/v1/events?stream=BROAD_INFO&kind=title&from_seq=5");
    expect(eventsUrl({ ...plainLog, from: "all" })).toBe("/v1/events?from_time=1970-01-01T00%3A00%3A00Z");
    // A sequence without its stream is of none.
    expect(eventsUrl({ ...plainLog, from: "seq:5" })).toBe("/v1/events");
    expect(eventsUrl({ ...plainLog, broadcast: "nonsense" })).toBeUndefined();
  });
});

describe("rows of the log", () => {
  const row = rowOf(
    JSON.stringify({ stream: "BROAD_INFO", seq: 7, subject: "media.broad_info.title.01m8", time: "t", data: { changed: { title: "Jazz 밤" } } }),
  );

  it("say where they stand and what they are of", () => {
    expect([row.key, row.kind, row.broadcast]).toEqual(["BROAD_INFO 7", "title", "01m8"]);
  });

  it("are found by all words, in whatever case", () => {
    expect(has(row, wordsOf(" jazz 밤 "))).toBe(true);
    expect(has(row, wordsOf("jazz radio"))).toBe(false);
    expect(has(row, [])).toBe(true);
  });

  it("are there for what is no entry as well", () => {
    const bad = rowOf(JSON.stringify({ stream: "BROAD_INFO", seq: 8, subject: "media.broad_info.title.x", error: "L07: no" }));
    expect([bad.summary, bad.time]).toEqual(["L07: no", ""]);
  });
});
