// Opens a watch page and looks for SECONDS at how it plays a broadcast that shows
// the time: by parts or by segments, how far behind, and whether it stalls. Prints
// the figures; fails when it stalls, or when no part was loaded.
//
// The picture holds a strip of 16 cells, the bits of the time in units of 50 ms,
// white for 1, along its upper edge: read from the screen, it tells the age of the
// picture by the same clock, glass to glass.
import { check, run, until } from "./browser.mjs";

/** Starts to count what hls.js does, and to read the time from each picture. */
function begin() {
  const { hls, video } = window.__castlog;
  const seen = { parts: 0, segments: 0, deltas: 0, blocked: 0, stalls: [], waits: 0, errors: [], hls: [], glass: [], playlists: 0 };
  window.__seen = seen;
  hls.on("hlsFragLoaded", (_, { frag, part }) => {
    if (frag.sn === "initSegment") return;
    if (part) seen.parts += 1;
    else seen.segments += 1;
  });
  hls.on("hlsLevelUpdated", (_, { details }) => {
    seen.playlists += 1;
    if (details.skippedSegments > 0 || details.deltaUpdateFailed === false) seen.deltas += 1;
  });
  hls.on("hlsError", (_, { details, fatal, response }) => {
    if (details === "bufferStalledError" || details === "bufferNudgeOnStall") seen.stalls.push(details);
    else seen.errors.push(`${details}${fatal ? " (fatal)" : ""} ${response?.code ?? ""}`.trim());
  });
  video.addEventListener("waiting", () => (seen.waits += 1));
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [320, 1];
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const read = () => {
    // The middle of the strip, which is an eighth of the picture high.
    context.drawImage(video, 0, video.videoHeight / 16, video.videoWidth, 1, 0, 0, 320, 1);
    const { data } = context.getImageData(0, 0, 320, 1);
    let units = 0;
    for (let bit = 0; bit < 16; bit += 1) if (data[(bit * 20 + 10) * 4] > 127) units += 2 ** bit;
    const now = (Date.now() / 50) % 65536;
    seen.glass.push((((now - units + 65536) % 65536) * 50) / 1000);
    video.requestVideoFrameCallback(read);
  };
  video.requestVideoFrameCallback(read);
  window.setInterval(() => seen.hls.push(hls.latency), 200);
}

const median = (list) => list.toSorted((a, b) => a - b)[Math.floor(list.length / 2)];
const figure = (seconds) => Number(seconds.toFixed(2));

await run("latency.mjs WATCH_URL SECONDS", 2, async ({ page }, url, seconds) => {
  await page.goto(url);
  await page.locator('[data-player="playing"]').waitFor();
  await until("hls.js plays by parts", () =>
    page.evaluate(() => (window.__castlog?.hls?.latestLevelDetails?.partList?.length > 0 || undefined) && true),
  );
  // Where it begins it has yet to find its place.
  await until("it has played a few seconds", () => page.evaluate(() => window.__castlog.video.currentTime > 0 && window.__castlog.video.getVideoPlaybackQuality().totalVideoFrames > 90 || undefined));
  await page.evaluate(begin);
  const from = await page.evaluate(() => window.__castlog.video.currentTime);
  await page.waitForTimeout(Number(seconds) * 1000);
  const seen = await page.evaluate(() => ({
    ...window.__seen,
    played: window.__castlog.video.currentTime,
    target: window.__castlog.hls.targetLatency,
    height: window.__castlog.video.videoHeight,
  }));
  const figures = {
    played_s: figure(seen.played - from),
    parts: seen.parts,
    segments: seen.segments,
    playlists: seen.playlists,
    deltas: seen.deltas,
    stalls: seen.stalls.length,
    waits: seen.waits,
    errors: seen.errors,
    height: seen.height,
    target_s: figure(seen.target ?? 0),
    hls_js_s: figure(median(seen.hls)),
    glass_to_glass_s: figure(median(seen.glass)),
    frames_read: seen.glass.length,
  };
  check(seen.parts > 0, `no part was loaded: ${JSON.stringify(figures)}`);
  return figures;
});
