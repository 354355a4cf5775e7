import { expect, it } from "vitest";
import { behind } from "./tail";

it("goes on reading behind the newest event that came", () => {
  expect(behind("/v1/events", "")).toBe("/v1/events");
  expect(behind("/v1/events", "12-7")).toBe("/v1/events?last_event_id=12-7");
  expect(behind("/v1/events?kind=title", "12")).toBe("/v1/events?kind=title&last_event_id=12");
});
