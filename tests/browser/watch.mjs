// Opens a watch page, looks at what is really decoded, and changes the quality
// once through the page's own menu. Prints the figures; fails when the picture
// does not move or the menu does not change it. Two controls show that the
// measures can fail: a paused picture stands still, and choosing the quality
// that is on the screen changes nothing.
import { check, run, until } from "./browser.mjs";

// Playing counts as proven after this much of it.
const framesWanted = 30;
const secondsWanted = 1;
const pausedMs = 1500;

/** What the browser has decoded so far; undefined without a player. */
function look() {
  const video = document.querySelector(".picture video");
  if (!video) return undefined;
  const { totalVideoFrames, droppedVideoFrames } = video.getVideoPlaybackQuality();
  const hls = window.__castlog?.hls;
  return {
    // Of the picture on the screen, not of what a playlist promises.
    height: video.videoHeight,
    time: video.currentTime,
    decoded: totalVideoFrames,
    dropped: droppedVideoFrames,
    audio_bytes: video.webkitAudioDecodedByteCount ?? 0,
    by_hls_js: Boolean(hls),
    latency: Number((hls?.latency ?? 0).toFixed(2)),
  };
}

await run("watch.mjs WATCH_URL", 1, async ({ page }, url) => {
  const sample = () => page.evaluate(look);
  const moves = (from, to) => to.time - from.time >= secondsWanted && to.decoded - from.decoded >= framesWanted;
  const plays = (what, from) =>
    until(what, async () => {
      const now = await sample();
      return now && moves(from, now) ? now : undefined;
    });

  await page.goto(url);
  // What the page settles on; while it loads it has decided nothing.
  const shown = page.locator('[data-player="playing"], main [data-state="empty"], main [data-state="error"]').first();
  await shown.waitFor();
  check((await shown.getAttribute("data-player")) !== null, `nothing to watch at ${url}`);
  const first = await until("a first decoded frame", async () => {
    const now = await sample();
    return now?.decoded > 0 && now.height > 0 ? now : undefined;
  });
  check(first.by_hls_js, "the page does not play through hls.js");
  const second = await plays("frames are decoded and currentTime advances", first);
  check(second.audio_bytes > 0, "no sound is decoded");

  await page.locator(".picture video").evaluate((video) => video.pause());
  const paused = await sample();
  await page.waitForTimeout(pausedMs);
  const still = await sample();
  check(still.time === paused.time && !moves(paused, still), "a paused picture seems to play: the measure is wrong");
  await page.locator(".picture video").evaluate((video) => video.play());
  await plays("it plays on after the pause", still);

  // The menu's entries by height, e.g. "720p" or "720p60".
  const menu = page.locator("select[name=quality]");
  const qualities = (
    await menu.locator("option").evaluateAll((options) => options.map(({ value, label }) => ({ value, label })))
  )
    .map((entry) => ({ ...entry, height: Number(/^(\d+)p/.exec(entry.label)?.[1] ?? 0) }))
    .filter(({ height }) => height > 0);
  const labels = qualities.map(({ label }) => label);
  check(qualities.length >= 3, `the quality menu offers ${labels.join(", ") || "nothing"}, not three qualities`);

  const pick = async (height) => {
    await menu.selectOption(qualities.find((quality) => quality.height === height).value);
    const there = await until(`the picture has ${height} lines`, async () => {
      const now = await sample();
      return now?.height === height ? now : undefined;
    });
    const after = await plays(`it plays on with ${height} lines`, there);
    check(after.height === height, `the picture left its ${height} lines for ${after.height}`);
    return after;
  };
  const before = (await sample()).height;
  check(
    qualities.some(({ height }) => height === before),
    `the picture has ${before} lines, the quality menu offers ${labels.join(", ")}`,
  );
  const same = await pick(before);
  const other = qualities.findLast(({ height }) => height !== before).height;
  const switched = await pick(other);

  return {
    title: await page.locator("h1").innerText(),
    state: await page.locator("[data-broadcast-state]").getAttribute("data-broadcast-state"),
    qualities: labels,
    first,
    second,
    heights: [same.height, switched.height],
    last: switched,
  };
});
