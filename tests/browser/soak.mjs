// Opens a watch page and looks for SECONDS at whether the picture moves. Prints how
// much was played with a picture, how much was only heard, the longest time without a new
// position, how often the page began again with a new hls.js, and what was to be seen where
// it stood still for long; fails when the picture does not move any more at the end.
import { run, until } from "./browser.mjs";

function begin() {
  const seen = { played: 0, listened: 0, still: 0, longest: 0, gaveUp: 0, stood: [] };
  const started = performance.now();
  // Just before the page itself does something about it.
  const long = 9;
  const ranges = (buffered) => Array.from({ length: buffered.length }, (_, n) => [buffered.start(n), buffered.end(n)]);
  const asked = (controller) => {
    const { loader } = controller?.fragCurrent ?? {};
    // hls.js may have done with it.
    if (!loader?.stats) return null;
    const { context, stats } = loader;
    const since = (performance.now() - stats.loading.start) / 1000;
    return { what: context?.url?.split("/").slice(-2).join("/"), for_s: Number(since.toFixed(1)), bytes: stats.loaded };
  };
  const sight = (hls, video) => ({
    after_s: Math.round((performance.now() - started) / 1000),
    at: video.currentTime,
    paused: video.paused,
    ready: video.readyState,
    buffered: ranges(video.buffered),
    edge: hls?.latestLevelDetails?.edge,
    low_latency: hls?.lowLatencyMode,
    playlist: hls?.url?.split("/").slice(-2).join("/"),
    // Not part of what hls.js promises to tell.
    tracks: Object.entries(hls?.bufferController?.tracks ?? {}).map(([kind, { buffer }]) => [kind, buffer ? ranges(buffer.buffered) : []]),
    doing: [hls?.streamController?.state, hls?.audioStreamController?.state],
    asked: [asked(hls?.streamController), asked(hls?.audioStreamController)],
    said: document.querySelector("[data-player]")?.dataset.player,
  });
  let [at, engine] = [window.__castlog.video.currentTime, window.__castlog.hls];
  window.__seen = seen;
  window.setInterval(() => {
    const { video, hls } = window.__castlog ?? {};
    if (hls !== engine) [seen.gaveUp, engine] = [seen.gaveUp + 1, hls];
    const now = video?.currentTime ?? at;
    if (now > at) {
      // Over a hole it jumps.
      const step = Math.min(now - at, 1);
      if (video.videoHeight > 0) seen.played += step;
      else seen.listened += step;
      seen.still = 0;
    } else {
      seen.still += 0.5;
      seen.longest = Math.max(seen.longest, seen.still);
      if (seen.still === long && video) seen.stood = [...seen.stood, sight(hls, video)].slice(-20);
    }
    at = now;
  }, 500);
}

await run("soak.mjs WATCH_URL SECONDS", 2, async ({ page }, url, seconds) => {
  await page.goto(url);
  await page.locator('[data-player="playing"]').waitFor();
  await page.evaluate(begin);
  await page.waitForTimeout(Number(seconds) * 1000);
  const { played, listened, longest, gaveUp, stood } = await page.evaluate(() => window.__seen);
  const before = await page.evaluate(() => window.__seen.played);
  await until("the picture moves", async () => ((await page.evaluate(() => window.__seen.played)) > before + 1 ? true : undefined));
  return { played_s: Number(played.toFixed(1)), listened_s: Number(listened.toFixed(1)), longest_still_s: longest, gave_up: gaveUp, stood };
});
