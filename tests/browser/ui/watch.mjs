// Points 10 to 16: the watch page.
import assert from "node:assert/strict";
import { test } from "node:test";
import { api, complaints, create, expects, launch, onAir, open, push, reaches, until } from "./stage.mjs";

async function watch(page, id) {
  await page.goto(`/watch/${id}`);
  await page.locator('[data-player="playing"]').waitFor();
}

const look = (page) =>
  page.locator(".picture video").evaluate((video) => ({ at: video.currentTime, paused: video.paused, muted: video.muted, volume: video.volume, height: video.videoHeight }));

async function plays(page) {
  const { at } = await look(page);
  await until("the picture moves", async () => ((await look(page)).at > at + 0.5 ? true : undefined));
}

test("10 play starts by itself, muted where sound is not allowed", async (t) => {
  const page = await open();
  const from = performance.now();
  await page.goto(`/watch/${onAir.game.id}`);
  await page.locator('[data-player="playing"]').waitFor();
  t.diagnostic(`plays ${Math.round(performance.now() - from)} ms after it was opened`);
  // What the playlist waits for is asked for side by side, as the page is opened: the answer and all files of the page.
  const asked = await page.evaluate(() => {
    const of = (path) => performance.getEntriesByType("resource").filter(({ name }) => new URL(name).pathname.startsWith(path));
    const [answer] = of("/v1/broadcasts/");
    const [first, engine, part, playlist] = ["/assets/index", "/assets/hls", "/assets/watch", "/live/"].map((path) => of(path)[0]);
    const times = Object.entries({ first, answer, engine, part, playlist });
    return {
      by: answer.initiatorType,
      late: of("/assets/").filter(({ startTime }) => startTime >= first.responseEnd).map(({ name }) => name),
      times: times.map(([name, { startTime, responseEnd }]) => `${name} ${Math.round(startTime)}–${Math.round(responseEnd)}`),
    };
  });
  t.diagnostic(`in ms: ${asked.times.join(", ")}`);
  assert.deepEqual([asked.by, asked.late], ["link", []]);
  assert.equal((await look(page)).muted, false);
  assert.equal(await page.locator(".prompt").count(), 0);
  await page.context().close();

  const strict = await launch(["--autoplay-policy=document-user-activation-required"]);
  const silent = await open({ from: strict });
  // Whatever a test evaluates counts as a gesture of a person, so it only listens at first.
  await silent.addInitScript(() => {
    document.addEventListener("playing", ({ target }) => console.info(`playing, muted: ${target.muted}`), true);
  });
  const said = silent.waitForEvent("console", (message) => message.text().startsWith("playing"));
  await silent.goto(`/watch/${onAir.game.id}`, { waitUntil: "commit" });
  assert.equal((await said).text(), "playing, muted: true");
  await plays(silent);
  await silent.locator(".prompt").getByRole("button", { name: "Turn sound on" }).click();
  await until("there is sound", async () => ((await look(silent)).muted ? undefined : true));
  assert.equal(await silent.locator(".prompt").count(), 0);
  await plays(silent);
  await silent.context().close();
});

/**
 * Seconds that the picture is behind by the clock in it, by the clock of the
 * playlist, and as the page says, all at the same moment.
 */
function readClock(page) {
  return page.evaluate(() => {
    const video = document.querySelector(".picture video");
    const canvas = new OffscreenCanvas(64, 36);
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(video, 0, 0, 64, 36);
    const now = Date.now() / 1000;
    const said = Number(document.querySelector("[data-latency]")?.dataset.latency);
    const dated = now - window.__castlog.hls.playingDate.getTime() / 1000;
    // The full range of the canvas for the limited one of the video, of which a digit is 22 steps.
    const digit = (x) => Math.round((context.getImageData(x, 8, 1, 1).data[0] * 219) / 255 / 22);
    const shown = digit(12) + digit(52) / 10;
    return { seen: now - shown, dated, said };
  });
}

test("11 the latency indicator is true, and one can go live", async (t) => {
  const page = await open();
  await watch(page, onAir.game.id);
  await page.locator("[data-latency]").waitFor();
  await plays(page);
  const pages = [];
  const streams = [];
  for (let n = 0; n < 15; n += 1) {
    const { seen, dated, said } = await readClock(page);
    pages.push(said - dated);
    // The clock in the picture counts to ten.
    streams.push(((((dated - seen + 5) % 10) + 10) % 10) - 5);
    await page.waitForTimeout(110);
  }
  const median = (values) => values.sort((a, b) => a - b)[Math.floor(values.length / 2)];
  const [ofPage, ofStream] = [median(pages), median(streams)];
  t.diagnostic(`the page is ${ofPage.toFixed(2)} s off the playlist's clock, which is ${ofStream.toFixed(2)} s off the encoder's`);
  assert.ok(Math.abs(ofPage) <= 0.3, `the indicator is ${ofPage} s off the playlist's clock`);
  // How late the playlist's clock is depends on how busy the machine was when the stream began.
  assert.ok(Math.abs(ofPage + ofStream) <= 4, `the indicator is ${ofPage + ofStream} s off`);

  const goLive = page.getByRole("button", { name: "Go live" });
  assert.equal(await goLive.count(), 0);
  await page.locator(".picture video").evaluate((video) => (video.currentTime -= 12));
  await goLive.click();
  await goLive.waitFor({ state: "detached" });
  await plays(page);
  await page.context().close();
});

/** Points at three tenths of the time line. */
async function pointAt(page) {
  const line = page.getByRole("slider", { name: "Position in the stream" });
  const box = await line.boundingBox();
  await page.mouse.move(box.x + box.width * 0.3, box.y + box.height / 2);
  const preview = page.locator(".preview");
  await preview.waitFor();
  assert.match(await preview.innerText(), /−\d+:\d\d/);
  return preview;
}

test("12 one can seek in the past, by pointer with a preview and by keyboard", async () => {
  const page = await open();
  const loaded = [];
  page.on("response", (response) => loaded.push(new URL(response.url()).pathname));
  await watch(page, onAir.game.id);
  const line = page.getByRole("slider", { name: "Position in the stream" });
  await until("a past of 20 s", async () => (Number(await line.getAttribute("min")) <= -20 ? true : undefined));
  const before = await look(page);
  await line.focus();
  for (let n = 0; n < 10; n += 1) await page.keyboard.press("ArrowLeft");
  await until("it went back", async () => ((await look(page)).at < before.at - 3 ? true : undefined));
  await plays(page);
  assert.match(await line.getAttribute("aria-valuetext"), /^\d+:\d\d behind live$/);
  await page.keyboard.press("End");
  await page.keyboard.press("l");

  const preview = await pointAt(page);
  // From a sheet of the storyboard, without a second player.
  const picture = preview.locator("img");
  await until("a picture of then", async () => (await picture.evaluate((image) => image.complete && image.naturalWidth)) || undefined);
  assert.equal(await picture.evaluate((image) => image.naturalWidth), 800);
  assert.ok(loaded.some((path) => /\/thumb\/\d+-\d+-10000-5x160x90-\d+\.jpg$/.test(path)), "no sheet was loaded");
  assert.equal(await preview.locator("video").evaluate((video) => video.readyState), 0);
  const live = (await look(page)).at;
  await page.mouse.down();
  await page.mouse.up();
  await until("it is there", async () => ((await look(page)).at < live - 4 ? true : undefined));
  await plays(page);
  await page.context().close();
});

test("12 who goes back stays there, and who was left behind without wanting it is brought on", async () => {
  const page = await open();
  await watch(page, onAir.game.id);
  const line = page.getByRole("slider", { name: "Position in the stream" });
  await until("a past of 20 s", async () => (Number(await line.getAttribute("min")) <= -20 ? true : undefined));
  const video = page.locator(".picture video");
  const rate = (wanted) => async () => wanted(await video.evaluate(({ playbackRate }) => playbackRate)) || undefined;
  await video.evaluate((video) => (video.currentTime -= 8));
  await until("it hurries", rate((rate) => rate > 1));
  await line.focus();
  for (let n = 0; n < 10; n += 1) await page.keyboard.press("ArrowLeft");
  await until("it takes its time", rate((rate) => rate === 1));
  await plays(page);
  await page.context().close();
});

test("12 where there is no storyboard, the preview plays the stream itself", async () => {
  const page = await open();
  await page.route("**/storyboard.vtt", (route) => route.fulfill({ body: "WEBVTT\n", headers: { "access-control-allow-origin": "*" } }));
  await watch(page, onAir.game.id);
  const line = page.getByRole("slider", { name: "Position in the stream" });
  await until("a past of 20 s", async () => (Number(await line.getAttribute("min")) <= -20 ? true : undefined));
  // So that the smallest pictures are asked for by the preview alone.
  await page.locator("select[name=quality]").selectOption({ label: "360p" });
  await until("360 lines", async () => ((await look(page)).height === 360 ? true : undefined));
  await plays(page);
  const asked = page.waitForRequest((request) => /\/240p\/\d+-.*\.m4s$/.test(request.url()));
  const preview = await pointAt(page);
  const [, minutes, seconds] = /−(\d+):(\d\d)/.exec(await preview.innerText());
  const edge = await page.evaluate(() => window.__castlog.hls.latestLevelDetails.edge);
  const [, segment] = /\/240p\/(\d+)-/.exec((await asked).url());
  // Straight there, and not by the live edge.
  const begins = await page.evaluate((segment) => {
    const { fragments } = window.__castlog.hls.latestLevelDetails;
    return fragments.find(({ url }) => url.includes(`/source/${segment}-`))?.start;
  }, segment);
  const off = edge - 60 * minutes - seconds - begins;
  assert.ok(Math.abs(off) < 4, `segment ${segment} begins ${off} s before the moment pointed at`);
  await until("a picture of then", async () =>
    (await preview.locator("video").evaluate((video) => video.readyState >= 2 && video.videoHeight)) || undefined,
  );
  assert.equal(await preview.locator("img").count(), 0);
  await page.context().close();
});

test("13 the quality can be chosen, is the one on the screen, and stays", async () => {
  const page = await open();
  await watch(page, onAir.game.id);
  const menu = page.locator("select[name=quality]");
  await until("what is on the screen", async () => {
    const { height } = await look(page);
    return (await menu.locator("option").first().innerText()) === `Auto (${height}p)` ? true : undefined;
  });
  await menu.selectOption({ label: "240p" });
  const lines = (height) => until(`${height} lines`, async () => ((await look(page)).height === height ? true : undefined));
  await lines(240);
  await page.reload();
  await page.locator('[data-player="playing"]').waitFor();
  await lines(240);
  assert.equal(await menu.evaluate((select) => select.selectedOptions[0].label), "240p");
  await menu.selectOption({ label: "360p" });
  await lines(360);
  await menu.selectOption("-1");
  await page.reload();
  await until("auto again", async () => ((await menu.inputValue()) === "-1" ? true : undefined));
  await page.context().close();
});

test("13 a chosen quality comes back after an error, and where there is none of it another plays", async () => {
  const page = await open();
  await watch(page, onAir.game.id);
  const menu = page.locator("select[name=quality]");
  const lines = (height) => until(`${height} lines`, async () => ((await look(page)).height === height ? true : undefined));
  await menu.selectOption({ label: "240p" });
  await lines(240);
  const ofIt = /\/240p\/.*\.m3u8/;
  const refused = page.evaluate(
    () => new Promise((then) => window.__castlog.hls.on("hlsError", (_, { details }) => details === "levelLoadError" && then())),
  );
  // As while an edge is being started again.
  expects(page, "net::ERR_CONNECTION_REFUSED", `/live/${onAir.game.id}/240p/index.m3u8`);
  await page.route(ofIt, (route) => route.abort("connectionrefused"), { times: 1 });
  await refused;
  const chosen = () => page.evaluate(() => !window.__castlog.hls.autoLevelEnabled);
  await until("the choice holds again", async () => (await chosen()) || undefined);
  await lines(240);
  await plays(page);

  let asked = 0;
  expects(page, 404, `/live/${onAir.game.id}/240p/index.m3u8`);
  await page.route(ofIt, (route) => {
    asked += 1;
    return route.fulfill({ status: 404, headers: { "access-control-allow-origin": "*" } });
  });
  await lines(360);
  await page.waitForTimeout(6000);
  await plays(page);
  assert.ok(asked > 1 && asked < 6, `asked for ${asked} times`);
  assert.equal(await menu.evaluate((select) => select.selectedOptions[0].label), "240p");
  await page.unroute(ofIt);
  await until("the choice holds again", async () => (await chosen()) || undefined);
  await lines(240);
  await page.context().close();
});

/** Which playlist plays: that of the whole stream, or of its sound alone. */
const listens = (page) => page.evaluate(() => window.__castlog?.hls?.url?.includes("/audio/") ?? false);

test("13 the sound alone is the last of the qualities, never the first choice, and stays once chosen", async () => {
  const page = await open();
  await watch(page, onAir.game.id);
  const { playback_url } = await api("GET", `/v1/broadcasts/${onAir.game.id}`);
  const variants = (await (await fetch(playback_url)).text()).split("\n").filter((line) => line.startsWith("#EXT-X-STREAM-INF"));
  assert.deepEqual(variants.map((line) => line.includes("RESOLUTION=")), [true, true, false]);
  const menu = page.locator("select[name=quality]");
  const offered = await menu.locator("option").evaluateAll((options) => options.map(({ label }) => label));
  assert.deepEqual([offered[1], offered[2], offered[3]], ["360p", "240p", "Audio only"]);
  assert.equal(await listens(page), false);
  assert.ok((await look(page)).height > 0);
  await menu.selectOption({ label: "Audio only" });
  const alone = async () => {
    await until("only the sound plays", async () => ((await listens(page)) && (await look(page)).height === 0 ? true : undefined));
    await plays(page);
    const sound = () => page.locator(".picture video").evaluate((video) => video.webkitAudioDecodedByteCount);
    const before = await sound();
    await until("sound is decoded", async () => ((await sound()) > before ? true : undefined));
    assert.equal(await menu.evaluate((select) => select.selectedOptions[0].label), "Audio only");
  };
  await alone();
  await page.reload();
  await alone();
  // Who is behind goes on where they were, in the past of the broadcast.
  const line = page.getByRole("slider", { name: "Position in the stream" });
  await line.press("Home");
  for (let n = 0; n < 8; n += 1) await line.press("ArrowRight");
  const date = () => page.evaluate(() => window.__castlog.hls.playingDate?.getTime());
  await page.getByRole("button", { name: "Go live" }).waitFor();
  await plays(page);
  const was = await date();
  // Straight there, and not by the live edge: which track of that comes first is open.
  const begins = () =>
    page.evaluate(() => {
      const { hls } = window.__castlog;
      const ofMedia = (then) => hls.on("hlsFragLoading", (_, { frag }) => frag.sn !== "initSegment" && then(frag.programDateTime));
      return new Promise((then) => hls.once("hlsManifestLoading", () => ofMedia(then)));
    });
  const near = (moment, then) => assert.ok(Math.abs(moment - then) < 4000, `it begins ${(moment - then) / 1000} s off`);
  const picture = begins();
  await menu.selectOption({ label: "240p" });
  near(await picture, was);
  await until("the same moment of the broadcast", async () => ((await listens(page)) || !(Math.abs((await date()) - was) < 4000) ? undefined : true));
  const back = () => until("the picture is back", async () => ((await look(page)).height === 240 ? true : undefined));
  await back();
  await plays(page);
  // So does who changes their mind before anything of the sound has come.
  const ofSound = /\/audio\/\d+-.*\.m4s$/;
  await page.route(ofSound, () => {});
  const left = await date();
  const sound = begins();
  await menu.selectOption({ label: "Audio only" });
  near(await sound, left);
  const again = begins();
  await menu.selectOption({ label: "240p" });
  near(await again, left);
  await page.unroute(ofSound);
  await back();
  await plays(page);
  await page.context().close();

  const korean = await open({ locale: "ko-KR" });
  await watch(korean, onAir.game.id);
  await korean.locator("option", { hasText: "소리만" }).waitFor({ state: "attached" });
  await korean.context().close();
});

test("13 a line too slow for a picture plays the sound, and the picture comes back with the line", async (t) => {
  const page = await open();
  await watch(page, onAir.game.id);
  await plays(page);
  const line = await page.context().newCDPSession(page);
  const throughput = (bytes) => line.send("Network.emulateNetworkConditions", { offline: false, latency: 20, downloadThroughput: bytes, uploadThroughput: -1 });
  // More than the sound takes, less than the smallest picture.
  await throughput(18_000);
  const from = performance.now();
  await page.getByText("Only the sound plays for now.").waitFor();
  t.diagnostic(`listens ${Math.round(performance.now() - from)} ms after the line has become slow`);
  assert.equal(await listens(page), true);
  await plays(page);
  assert.equal(await page.locator("select[name=quality] option").first().innerText(), "Auto (Audio only)");
  await throughput(-1);
  await until("the picture is back", async () => ((await look(page)).height > 0 ? true : undefined));
  assert.equal(await listens(page), false);
  await plays(page);
  await page.context().close();
});

test("13 a player that is given transport streams plays them, at every quality", async () => {
  const page = await open();
  await watch(page, onAir.game.id);
  const loaded = [];
  page.on("response", (response) => loaded.push(new URL(response.url()).pathname));
  await page.evaluate(() => window.__castlog.hls.loadSource(window.__castlog.hls.url.replace("/index.m3u8", "/ts.m3u8")));
  for (const height of [360, 240]) {
    await page.evaluate((height) => {
      const { hls } = window.__castlog;
      const choose = () => (hls.nextLevel = hls.levels.findIndex((level) => level.height === height));
      if (hls.levels.length > 0) choose();
      else hls.once("hlsManifestParsed", choose);
    }, height);
    await until(`${height} lines`, async () => ((await look(page)).height === height ? true : undefined));
    await plays(page);
  }
  const of = (height) => loaded.filter((path) => new RegExp(`/${height}/\\d+-\\d+\\.\\d+\\.audio\\.ts$`).test(path)).length;
  assert.ok(of("source") > 0 && of("240p") > 0, loaded.join(" "));
  assert.ok((await page.locator(".picture video").evaluate((video) => video.webkitAudioDecodedByteCount)) > 0);
  await page.context().close();
});

test("14 keys do what the help says, and nothing where somebody types", async () => {
  const page = await open();
  await watch(page, onAir.game.id);
  await plays(page);
  const becomes = (what, holds) => until(what, async () => (holds(await look(page)) ? true : undefined));
  for (const key of ["Space", "k"]) {
    await page.keyboard.press(key);
    await becomes("paused", ({ paused }) => paused);
    await page.keyboard.press(key);
    await becomes("playing", ({ paused }) => !paused);
  }
  await page.keyboard.press("m");
  await becomes("muted", ({ muted }) => muted);
  await page.keyboard.press("m");
  await becomes("loud", ({ muted }) => !muted);
  await page.keyboard.press("ArrowDown");
  await becomes("quieter", ({ volume }) => volume < 1);
  await page.keyboard.press("ArrowUp");
  await becomes("louder", ({ volume }) => volume === 1);
  const { at } = await look(page);
  await page.keyboard.press("ArrowLeft");
  await becomes("5 s back", (now) => now.at < at - 2);
  await page.keyboard.press("ArrowRight");
  await becomes("5 s forward", (now) => now.at > at - 1);
  for (let n = 0; n < 3; n += 1) await page.keyboard.press("ArrowLeft");
  await page.keyboard.press("l");
  await page.getByRole("button", { name: "Go live" }).waitFor({ state: "detached" });
  await page.keyboard.press("f");
  await until("full screen", () => page.evaluate(() => document.fullscreenElement !== null || undefined));
  await page.keyboard.press("f");
  await until("no full screen", () => page.evaluate(() => document.fullscreenElement === null || undefined));
  await page.keyboard.press("?");
  const help = page.getByRole("dialog", { name: "Keyboard shortcuts" });
  await help.waitFor();
  await page.keyboard.press("Escape");
  await help.waitFor({ state: "hidden" });

  await page.evaluate(() => {
    const field = document.createElement("input");
    field.id = "typed";
    document.querySelector("main").append(field);
    field.focus();
  });
  const before = await look(page);
  await page.keyboard.type("k mfl?");
  assert.equal(await page.locator("#typed").inputValue(), "k mfl?");
  const now = await look(page);
  assert.deepEqual([now.paused, now.muted, await help.isVisible()], [before.paused, before.muted, false]);
  await page.context().close();
});

test("15 a new title shows at once, and as a mark on the time line", async () => {
  const page = await open();
  await watch(page, onAir.jazz.id);
  assert.equal(await page.locator(".timeline-mark").count(), 0);
  await api("PUT", `/v1/broadcasts/${onAir.jazz.id}/title`, { title: "Second set" });
  await page.getByRole("heading", { level: 1, name: "Second set" }).waitFor();
  assert.match(await page.title(), /^Second set/);
  await page.locator('.timeline-mark[title="Second set"]').waitFor();
  await page.getByText("Title changes (1)").click();
  await page.getByRole("button", { name: /Second set/ }).click();
  await plays(page);
  await api("PUT", `/v1/broadcasts/${onAir.jazz.id}/title`, { title: onAir.jazz.title });
  await page.context().close();
});

test("16 when the encoder drops, the page says so and plays on without a reload", async (t) => {
  const drop = await create("Comes and goes", []);
  let encoder = push(drop.key);
  await reaches(drop.id, "live");
  const page = await open();
  await watch(page, drop.id);
  await page.evaluate(() => {
    window.engine = window.__castlog.hls;
    window.fatal = [];
    window.engine.on("hlsError", (_, { fatal, details }) => fatal && window.fatal.push(details));
  });
  await encoder.kill();
  const said = page.locator(".overlay:not([hidden])");
  await until("it says reconnecting", async () => ((await said.count()) && /Waiting for it to come back/.test(await said.innerText())) || undefined);
  assert.equal(await page.locator(".badge").innerText(), "Reconnecting");
  // Longer than a slow line is borne with: this is none.
  await page.waitForTimeout(7000);
  assert.equal(await listens(page), false);
  const { at } = await look(page);
  const from = performance.now();
  encoder = push(drop.key);
  await until("it plays on", async () => {
    const now = await look(page);
    return now.at > at + 1 && !now.paused && (await said.count()) === 0 ? true : undefined;
  });
  await plays(page);
  t.diagnostic(`plays on ${Math.round(performance.now() - from)} ms after the encoder is back`);
  assert.deepEqual(await page.evaluate(() => [window.engine === window.__castlog.hls, window.fatal]), [true, []]);
  await encoder.stop();
  await page.getByText("This broadcast has ended.").first().waitFor();
  await page.context().close();
});

const tokenOf = (path) => /^\/t\/([\w.-]+)\//.exec(path)?.[1];

test("a private broadcast is played by who is signed in, with a token, and by nobody else", async () => {
  const { id, key } = await create("Rehearsal", [], { visibility: "private", ladder: [144] });
  const encoder = push(key);
  await reaches(id, "live");
  const page = await open({ signedIn: true });
  const asked = [];
  page.on("request", (request) => asked.push(new URL(request.url()).pathname));
  // The first token seems to end so soon that the next one is asked for seconds later.
  const given = [];
  await page.route(`**/v1/broadcasts/${id}/playback-tokens`, async (route) => {
    const response = await route.fetch(given.length === 0 ? { postData: { lifetime_s: 3600 } } : {});
    const token = await response.json();
    given.push(tokenOf(new URL(token.playback_url).pathname));
    if (given.length === 1) token.expires_at = new Date(Date.now() + 60_000).toISOString();
    await route.fulfill({ response, json: token });
  });
  await watch(page, id);
  await plays(page);
  await page.evaluate(() => (window.engine = window.__castlog.hls));
  const media = asked.filter((path) => /\.(m3u8|m4s|mp4)$/.test(path));
  assert.ok(media.length > 5, `${media.length} playlists and media`);
  assert.deepEqual(media.filter((path) => !/^\/t\/[\w.-]+\/(live|media)\//.test(path)), []);
  await until("the next token", async () => (given.length > 1 ? true : undefined));
  await page.waitForTimeout(1000);
  asked.length = 0;
  await plays(page);
  await until("playlists by it", async () => (asked.filter((path) => /\.m3u8$/.test(path)).length > 3 ? true : undefined));
  const used = new Set(asked.filter((path) => /\.(m3u8|m4s|mp4)$/.test(path)).map(tokenOf));
  assert.notEqual(given[0], given[1]);
  assert.deepEqual([...used], [given[1]]);
  assert.equal(await page.evaluate(() => window.engine === window.__castlog.hls), true);
  await page.context().close();

  const other = await open();
  expects(other, 404, `/v1/broadcasts/${id}`);
  await other.goto(`/watch/${id}`);
  await other.locator("[data-state=empty]").waitFor();
  await other.context().close();
  // The address without a token is no way in.
  const { playback_url: url } = await api("GET", `/v1/broadcasts/${id}`);
  const { status } = await fetch(url);
  assert.equal(status, 403);
  await encoder.stop();
});

test("10 it plays on after a failure of the decoder, and stays paused for who paused", async () => {
  const page = await open();
  await watch(page, onAir.jazz.id);
  const fails = (type) =>
    page.evaluate((type) => {
      const { hls } = window.__castlog;
      window.__failed = hls;
      hls.trigger("hlsError", { type, details: "internalException", fatal: true, error: new Error("made by a test") });
    }, type);
  await plays(page);
  await fails("mediaError");
  await plays(page);

  await page.keyboard.press("k");
  await fails("networkError");
  const hasMedia = () => {
    const { hls, video } = window.__castlog ?? {};
    return hls && hls !== window.__failed && video.buffered.length > 0 ? true : undefined;
  };
  await until("another player has media", () => page.evaluate(hasMedia));
  await page.locator('[data-player="playing"]').waitFor();
  assert.ok((await look(page)).paused, "it plays for who has paused");
  await page.keyboard.press("k");
  await plays(page);
  await page.context().close();
});

test("10 what its engine may load ahead does not shrink for good", async () => {
  const page = await open();
  await watch(page, onAir.jazz.id);
  await plays(page);
  const ahead = () => page.evaluate(() => window.__castlog.hls.config.maxMaxBufferLength);
  // As hls.js does it where it looks for a fragment that is still being taken in.
  const shrunk = await page.evaluate(() => {
    const { hls } = window.__castlog;
    for (let time = 0; time < 12; time++) hls.streamController.reduceMaxBufferLength(2, 2);
    return hls.config.maxMaxBufferLength;
  });
  assert.ok(shrunk < 3, `hls.js has shrunk it to ${shrunk} s only`);
  await until("it is as long as it was", async () => ((await ahead()) >= 20 ? true : undefined));
  await plays(page);
  // A browser that is full is another matter.
  await page.evaluate(() => {
    const { hls } = window.__castlog;
    const { Events, ErrorTypes, ErrorDetails } = hls.constructor;
    hls.trigger(Events.ERROR, { type: ErrorTypes.MEDIA_ERROR, details: ErrorDetails.BUFFER_FULL_ERROR, fatal: false, error: new Error("full") });
    hls.config.maxMaxBufferLength = 5;
  });
  await page.waitForTimeout(1500);
  assert.equal(await ahead(), 5);
  await page.context().close();
});

test("10 a loader that its engine has done with does it no harm", async () => {
  const page = await open();
  await watch(page, onAir.jazz.id);
  await plays(page);
  const before = [...complaints];
  // As hls.js leaves a fragment that was being loaded when a newer playlist came.
  await page.evaluate(() => {
    const { hls } = window.__castlog;
    const done = new hls.config.loader(hls.config);
    done.destroy();
    const spoil = (_, { frag }) => (frag.loader = done);
    for (const event of [hls.constructor.Events.FRAG_LOADING, hls.constructor.Events.FRAG_LOADED]) hls.on(event, spoil);
  });
  // Looks at it are half a second apart.
  await page.waitForTimeout(1500);
  await plays(page);
  assert.deepEqual(complaints, before);
  await page.context().close();
});

test("10 it goes on where its engine waits for nothing without a word", async (t) => {
  const page = await open();
  await watch(page, onAir.jazz.id);
  await plays(page);
  await page.evaluate(() => {
    const { hls, video } = window.__castlog;
    window.__silent = hls;
    window.__sought = [];
    window.__from = performance.now();
    // Playlists are still read, so that it knows where the live edge is.
    hls.pauseBuffering();
    video.addEventListener("seeking", () => window.__sought.push(Math.round(performance.now() - window.__from)));
  });
  const renewed = () => page.evaluate(() => (window.__castlog.hls !== window.__silent && window.__castlog.hls ? window.__sought : undefined));
  const sought = await until("it has begun anew", renewed);
  assert.ok(sought.length > 0, "it was not told first to go to the live edge");
  // The line has not been slow.
  assert.equal(await listens(page), false);
  await plays(page);
  t.diagnostic(`went to the live edge after ${sought[0]} ms, and plays after ${Math.round(await page.evaluate(() => performance.now() - window.__from))} ms`);
  await page.context().close();
});
