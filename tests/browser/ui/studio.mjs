// Points 17 and 18: the studio; and signing in.
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { api, base, create, expects, onAir, open, push, reaches, token, until } from "./stage.mjs";

/** Everything that a page keeps in the browser where scripts can read it. */
const readable = (page) =>
  page.evaluate(() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie, history.state, location.href]));

test("the token is exchanged for a cookie that no script reads, and is kept nowhere", async () => {
  const page = await open();
  const urls = [];
  page.on("request", (request) => urls.push(request.url()));
  // Who is not signed in is sent to the login, and back to what was wanted.
  await page.goto("/events/consumers");
  await page.waitForURL((url) => url.pathname === "/login" && url.searchParams.get("next") === "/events/consumers");
  expects(page, 401, "/v1/session");
  await page.getByLabel("Admin token").fill("wrong-token-0123456789");
  await page.keyboard.press("Enter");
  await page.getByRole("alert").waitFor();
  await page.getByLabel("Admin token").fill(token);
  await page.keyboard.press("Enter");
  await page.waitForURL("**/events/consumers");
  const [cookie] = await page.context().cookies(`${base}/v1/session`);
  assert.deepEqual([cookie.name, cookie.httpOnly, cookie.sameSite, cookie.path], ["castlog_session", true, "Strict", "/v1"]);
  assert.ok(!cookie.value.includes(token));
  const kept = await readable(page);
  assert.ok(!kept.includes(token) && !kept.includes(cookie.value), kept);
  assert.ok(urls.length > 0 && !urls.some((url) => url.includes(token)));
  await page.reload();
  await page.locator("[data-consumer]").first().waitFor();
  // No page of elsewhere is where one lands.
  await page.goto("/login?next=//elsewhere.example/x");
  await page.waitForURL(`${base}/studio`);
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.waitForURL(`${base}/`);
  assert.deepEqual(await page.context().cookies(`${base}/v1/session`), []);
  await page.goto("/studio");
  await page.waitForURL("**/login?next=%2Fstudio");
  await page.context().close();
});

/** The log files of the platform, as one text. */
function logs() {
  const folder = join(process.env.CASTLOG_DATA, "logs");
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => readFileSync(join(entry.parentPath ?? entry.path, entry.name), "utf8"))
    .join("\n");
}

test("17 the publish key is masked, announced, rotated on demand, and in no URL and no log", async () => {
  const page = await open({ signedIn: true, permissions: ["clipboard-read", "clipboard-write"] });
  const urls = [];
  page.on("request", (request) => urls.push(request.url()));
  await page.goto("/studio/new");
  await page.getByRole("button", { name: "Create broadcast" }).click();
  await page.getByRole("alert").filter({ hasText: "needs a title" }).waitFor();
  await page.getByLabel("Title").fill("From the studio");
  await page.getByLabel("Tags").fill("#studio, test");
  await page.getByRole("button", { name: "Create broadcast" }).click();
  const panel = page.locator("[data-issued-for]");
  await panel.waitFor();
  const id = await panel.getAttribute("data-issued-for");
  const field = page.locator("input[name=publish-key]");
  const status = panel.getByRole("status");
  const announced = (text) => until(text, async () => ((await status.allInnerTexts()).includes(text) ? true : undefined));

  assert.equal(await field.getAttribute("type"), "password");
  await page.getByRole("button", { name: "Reveal" }).click();
  assert.equal(await field.getAttribute("type"), "text");
  await announced("Publish key: shown");
  const key = await field.inputValue();
  assert.match(key, /^ck_\w{32}$/);
  await page.getByRole("button", { name: "Hide" }).click();
  assert.equal(await field.getAttribute("type"), "password");
  await page.getByRole("button", { name: "Copy Publish key" }).click();
  await announced("Publish key: copied");
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), key);
  const obs = await panel.locator(".steps").innerText();
  for (const said of ["Settings → Stream", "Stream Key", "2 s"]) assert.ok(obs.includes(said), obs);
  assert.ok((await page.locator("input[name=rtmp-url]").inputValue()).startsWith("rtmp://"));

  const encoder = push(key);
  await reaches(id, "live");
  await page.getByRole("button", { name: "I have copied the key" }).click();
  await page.waitForURL(`**/studio/${id}`);
  assert.equal(await field.count(), 0, "the key is still there");

  // Rotation asks, and can be called off.
  const ask = page.getByRole("button", { name: "New publish key" });
  await ask.click();
  const confirm = page.getByRole("group", { name: "New publish key" });
  assert.match(await confirm.innerText(), /stops working at once/);
  await page.keyboard.press("Escape");
  await confirm.waitFor({ state: "detached" });
  assert.ok(await ask.evaluate((button) => button === document.activeElement), "the keyboard is lost");
  await ask.click();
  await confirm.getByRole("button", { name: "Make new key" }).click();
  await panel.waitFor();
  assert.equal(await field.getAttribute("type"), "password");
  const fresh = await field.inputValue();
  assert.notEqual(fresh, key);
  // The encoder with the old key is cut off, and cannot come back.
  assert.notEqual((await encoder.ended).code, 0);
  const { code, said } = await push(key).ended;
  assert.ok(code !== 0 && /R0[14]/.test(said), said);
  const again = push(fresh);
  await reaches(id, "live");
  await again.stop();

  const kept = await readable(page);
  const written = logs();
  assert.ok(written.includes(id), "these are not the logs");
  for (const secret of [key, fresh]) {
    assert.ok(!urls.some((url) => url.includes(secret)) && !kept.includes(secret) && !written.includes(secret));
  }
  assert.equal(await page.locator("[data-issued-for]").count(), 1);
  await page.reload();
  await page.getByRole("heading", { name: "Encoder set-up" }).waitFor();
  assert.equal(await field.count(), 0, "a reload shows the key again");

  // The details are edited beside it. What somebody else has changed since the page was
  // opened, which the page knows by then, is left alone.
  await api("PUT", `/v1/broadcasts/${id}/options?wait=applied`, { visibility: "private" });
  const polled = () => page.waitForResponse((response) => new URL(response.url()).pathname === `/v1/broadcasts/${id}`);
  await polled();
  await polled();
  await page.getByLabel("Title").fill("Renamed");
  await page.getByRole("button", { name: "Save" }).click();
  await page.getByText("Saved.").waitFor();
  const { title, options } = await api("GET", `/v1/broadcasts/${id}`);
  assert.deepEqual([title, options.visibility], ["Renamed", "private"]);
  await page.getByRole("button", { name: "Delete" }).click();
  await page.getByRole("button", { name: "Delete for good" }).click();
  await page.waitForURL(`${base}/studio`);
  await page.locator(`[data-broadcast-id="${id}"]`).waitFor({ state: "detached" });
  await page.context().close();
});

/** An encoder that breaks off for so long that samples of its health are missing, and comes back. */
async function breaksOff() {
  const { id, key } = await create("Breaks off", [], { visibility: "private", ladder: [144] });
  const newest = async () => (await api("GET", `/v1/broadcasts/${id}/health?minutes=15`)).samples.at(-1)?.at;
  const first = push(key);
  await until("a sample", newest);
  await first.kill();
  // With the five seconds of the sample after it this is more than two of them.
  const last = await until("a gap", async () => {
    const at = await newest();
    return Date.now() - Date.parse(at) > 9_000 ? at : undefined;
  });
  const second = push(key);
  const next = await until("a sample after it", async () => {
    const at = await newest();
    return at === last ? undefined : at;
  });
  await second.stop();
  return { id, seconds: Math.round((Date.parse(next) - Date.parse(last)) / 1000) };
}

/** The longest run of columns of a graph in which no line is drawn, as a part of all from the first to the last that have one. */
const undrawn = (page) =>
  page.locator("[data-graph=bitrate] canvas").evaluate((canvas) => {
    const line = getComputedStyle(canvas).getPropertyValue("--act").match(/[0-9a-f]{2}/gi).map((hex) => Number.parseInt(hex, 16));
    const { data, width, height } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    const isLine = (at) => data[at + 3] > 128 && line.every((value, n) => Math.abs(data[at + n] - value) < 48);
    let [first, last, longest] = [undefined, undefined, 0];
    for (let x = 0; x < width; x += 1) {
      let found = false;
      for (let y = 0; y < height && !found; y += 1) found = isLine((y * width + x) * 4);
      if (!found) continue;
      if (last !== undefined) longest = Math.max(longest, x - last - 1);
      first ??= x;
      last = x;
    }
    return longest / (last - first);
  });

test("18 health is drawn, said in words and as a table, and comes with advice", async () => {
  const brokenOff = breaksOff();
  // It is waited for at the end; a failure before must not be one of the process.
  brokenOff.catch(() => undefined);
  const page = await open({ signedIn: true });
  await page.goto(`/studio/${onAir.game.id}`);
  const health = page.locator("[data-samples]");
  await until("two samples", async () => (Number(await health.getAttribute("data-samples")) >= 2 ? true : undefined));
  assert.equal(await page.locator("[data-graph] canvas").count(), 3);
  const drawn = await page.locator("[data-graph=bitrate] canvas").evaluate((canvas) => {
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    return data.some((value) => value !== 0);
  });
  assert.ok(drawn, "the graph is empty");
  assert.ok((await undrawn(page)) < 0.1, "a line without a gap has one");
  assert.equal(await health.getAttribute("data-gaps"), "0");
  assert.match(await health.innerText(), /There is no gap\./);
  assert.match(await health.innerText(), /\d+ kbit\/s, \d+\.\d frames\/s, a keyframe every \d\.\d s/);
  assert.equal(await page.locator("[data-advice]").first().getAttribute("data-advice"), "health.good");
  await page.getByText("The last samples as a table").click();
  assert.ok((await page.locator(".health tbody tr").count()) >= 2);

  // An encoder with rare keyframes gets other advice.
  const made = await api("POST", "/v1/broadcasts?wait=applied", { title: "Rare keyframes" });
  const encoder = push(made.publish_key, { keyframes: 150 });
  await reaches(made.broadcast.id, "live");
  await page.goto(`/studio/${made.broadcast.id}`);
  await page.locator('[data-advice="health.keyframe_long"]').waitFor();
  await encoder.stop();

  // An encoder that was away leaves a gap, not zeros, and the words say when.
  const { id, seconds } = await brokenOff;
  await page.goto(`/studio/${id}`);
  await health.waitFor();
  assert.equal(await health.getAttribute("data-gaps"), "1");
  const samples = (await api("GET", `/v1/broadcasts/${id}/health?minutes=15`)).samples.map(({ at }) => Date.parse(at));
  const wanted = (seconds * 1000) / (samples.at(-1) - samples[0]);
  const seen = await undrawn(page);
  assert.ok(Math.abs(seen - wanted) < 0.1, `nothing is drawn for ${seen} of the time, there was nothing for ${wanted}`);
  const said = new RegExp(`From .+ to .+ nothing was measured \\(${seconds} s\\)`);
  assert.match(await page.locator(".gaps").innerText(), said);
  await page.getByText("The last samples as a table").click();
  assert.match(await page.locator(".health tr.gap").innerText(), said);
  await page.context().close();
});
