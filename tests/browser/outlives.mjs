// Opens a watch page, makes the file MARK once it plays by parts, and looks on until
// it plays behind a discontinuity that comes after: the worker that made the pictures
// has died, and another goes on. Prints what the viewer saw of that; fails when the
// player gave up in between, even when the page began anew by itself.
import { writeFileSync } from "node:fs";
import { check, run, until } from "./browser.mjs";

/** Starts to note what hls.js says, and how long no new picture comes. */
function begin() {
  const { hls, video } = window.__castlog;
  const seen = { hls, fatal: [], errors: [], still: 0, cc: undefined, since: undefined };
  window.__seen = seen;
  hls.on("hlsError", (_, { details, fatal }) => {
    if (fatal) seen.fatal.push(details);
    else seen.errors.push(details);
  });
  hls.on("hlsFragChanged", (_, { frag }) => {
    if (frag.cc === seen.cc) return;
    [seen.cc, seen.since] = [frag.cc, video.currentTime];
  });
  let last = performance.now();
  const shown = (now) => {
    seen.still = Math.max(seen.still, now - last);
    last = now;
    video.requestVideoFrameCallback(shown);
  };
  video.requestVideoFrameCallback(shown);
}

const behind = () => {
  const { cc, since, first } = window.__seen;
  if (cc === undefined) return undefined;
  if (first === undefined) window.__seen.first = cc;
  return cc > (first ?? cc) && window.__castlog.video.currentTime - since > 5 ? true : undefined;
};

await run("outlives.mjs WATCH_URL MARK", 2, async ({ page }, url, mark) => {
  await page.goto(url);
  await page.locator('[data-player="playing"]').waitFor();
  await until("hls.js plays by parts", () =>
    page.evaluate(() => window.__castlog?.hls?.latestLevelDetails?.partList?.length > 0 || undefined),
  );
  await page.evaluate(begin);
  await until("it is known what is played", () => page.evaluate(behind).then(() => page.evaluate(() => window.__seen.first !== undefined || undefined)));
  writeFileSync(mark, "");
  await until("it plays behind a discontinuity", () => page.evaluate(behind), 120_000);
  const seen = await page.evaluate(() => {
    const { hls, fatal, errors, still } = window.__seen;
    return { same: hls === window.__castlog.hls, fatal, errors: [...new Set(errors)], still_s: still / 1000 };
  });
  check(seen.same && seen.fatal.length === 0, `the player gave up: ${JSON.stringify(seen)}`);
  return seen;
});
