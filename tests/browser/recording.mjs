// Opens the watch page of a broadcast that is over and plays its newest recording:
// from its beginning to its end, over a discontinuity, after seeking back with the
// keyboard. Prints how long it is.
import { check, run, until } from "./browser.mjs";

await run("recording.mjs WATCH_URL", 1, async ({ page }, url) => {
  await page.goto(url);
  await page.locator('[data-player="playing"]').waitFor();
  const state = await page.locator("article").getAttribute("data-broadcast-state");
  check(state === "ended", `the broadcast is ${state}`);
  const link = page.locator(".recordings a[aria-current]");
  check((await link.count()) === 1, "no recording is marked as the one that plays");
  const length = await page.evaluate(() => window.__castlog.video.duration);
  check(Number.isFinite(length) && length > 4, `it is ${length} s long`);
  check((await page.locator(".latency, .go-live").count()) === 0, "a recording is not behind live");
  await page.evaluate((to) => (window.__castlog.video.currentTime = to), length - 2);
  await until("it plays to its end", () => page.evaluate(() => window.__castlog.video.ended || undefined));
  // After a failure it goes on where it was.
  const middle = length / 2;
  const failed = await page.evaluateHandle((to) => {
    const { hls, video } = window.__castlog;
    video.currentTime = to;
    hls.trigger("hlsError", { type: "networkError", details: "fragLoadError", fatal: true });
    return hls;
  }, middle);
  const resumed = await until("it plays again", () =>
    page.evaluate((before) => {
      const { hls, video } = window.__castlog;
      return (hls !== before && video.readyState > 2 && !video.seeking && video.currentTime) || undefined;
    }, failed),
  );
  check(resumed >= middle - 0.5, `it goes on at ${resumed} s and not at ${middle} s`);
  const timeline = page.locator('input[name="timeline"]');
  await timeline.focus();
  await timeline.press("Home");
  await until("it is at its beginning", () => page.evaluate(() => window.__castlog.video.currentTime < 2 || undefined));
  const words = await timeline.getAttribute("aria-valuetext");
  check(/ of /.test(words), `the position reads ${words}`);
  const box = await timeline.boundingBox();
  await page.mouse.move(box.x + box.width / 2, box.y + box.height / 2);
  const picture = page.locator(".preview img");
  await until("a picture of the storyboard", () =>
    picture.evaluate((image) => (image.complete && image.naturalWidth === 800) || undefined),
  );
  // The page of the recording itself can be shared.
  await page.goto(new URL(await link.getAttribute("href"), url).href);
  await page.locator('[data-player="playing"]').waitFor();
  return { length_s: Number(length.toFixed(2)), position: words };
});
