// What the tests of the pages share: a running castlog, encoders, a browser, and
// notes of everything that a page complains about.
import { spawn } from "node:child_process";
import { after, before } from "node:test";
import { chromium } from "playwright-core";
import { alone, findChromium, soonMs, until } from "../browser.mjs";

export const { CASTLOG_API_URL: base, CASTLOG_ADMIN_TOKEN: token, CASTLOG_RTMP_URL: rtmp } = process.env;
for (const [name, value] of Object.entries({ CASTLOG_API_URL: base, CASTLOG_ADMIN_TOKEN: token, CASTLOG_RTMP_URL: rtmp })) {
  if (!value) throw new Error(`${name} is not set: see the env file in the data folder of castlog up`);
}

/** Asks the API as the admin; the JSON of the answer. */
export async function api(method, path, body) {
  const response = await fetch(new URL(path, base), {
    method,
    headers: { authorization: `Bearer ${token}`, ...(body && { "content-type": "application/json" }) },
    body: body && JSON.stringify(body),
  });
  const text = await response.text();
  if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`);
  return text === "" ? undefined : JSON.parse(text);
}

/** A new broadcast: its id and publish key. */
export async function create(title, tags, options = {}) {
  const made = await api("POST", "/v1/broadcasts?wait=applied", { title, tags, options });
  return { id: made.broadcast.id, key: made.publish_key, title };
}

const encoders = new Set();

// The picture is a clock: its left half has the brightness of the second, its
// right half that of the tenth of a second, each modulo ten.
const digit = (value) => `mod(floor(${value}),10)*22+16`;
const clock = `nullsrc=s=128x72:r=25,geq=lum='if(lt(X,64),${digit("time(0)")},${digit("time(0)*10")})':cb=128:cr=128`;

/** An encoder that sends a clock. */
export function push(key, { height = 180, keyframes = 50 } = {}) {
  const child = spawn(
    "ffmpeg",
    `-nostdin -loglevel error -re -f lavfi -i @ -f lavfi -i sine=f=330:r=44100 -c:v libx264 -preset ultrafast -tune zerolatency -g ${keyframes} -sc_threshold 0 -b:v 500k -pix_fmt yuv420p -c:a aac -b:a 64k -f flv ${rtmp}/${key}`
      .split(" ")
      .map((word) => (word === "@" ? `${clock},scale=${(height * 16) / 9}:${height}:flags=neighbor` : word)),
    { stdio: ["ignore", "ignore", "pipe"] },
  );
  let said = "";
  child.stderr.on("data", (data) => (said += data));
  const ended = new Promise((resolve) => child.once("close", (code) => resolve({ code, said })));
  encoders.add(child);
  const kill = async (signal) => {
    child.kill(signal);
    await ended;
    encoders.delete(child);
  };
  return { ended, stop: () => kill("SIGINT"), kill: () => kill("SIGKILL") };
}

export async function reaches(id, state) {
  await until(`${id} is ${state}`, async () =>
    (await api("GET", `/v1/broadcasts/${id}`)).status.state === state ? true : undefined,
  );
}

/** What pages have complained about, by error or by a request that failed and that no test expects. */
export const complaints = [];
/** Requests that tests expect to fail, and how often they did. */
export const failures = [];
let browser;
const browsers = [];

/** A page of its own profile. */
export async function open({ signedIn = false, from = browser, ...options } = {}) {
  const context = await from.newContext({ viewport: { width: 1280, height: 800 }, locale: "en-US", baseURL: base, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(soonMs);
  page.on("console", (message) => {
    if (message.type() !== "error") return;
    const what = failedRequest(message);
    const expected = failures.find((failure) => failure.page === page && failure.what === what);
    if (expected) expected.seen += 1;
    else complaints.push(`${page.url()}: ${what ?? message.text()}`);
  });
  page.on("pageerror", (error) => complaints.push(`${page.url()}: ${error.stack ?? error}`));
  if (signedIn) await signIn(page);
  return page;
}

/** The browser's own line for a request that failed, as status or reason and path; undefined for another line. */
function failedRequest(message) {
  const [, status, reason] = /^Failed to load resource: (?:the server responded with a status of (\d+)|(net::\w+))/.exec(message.text()) ?? [];
  const failed = status ?? reason;
  return failed && `${failed} ${new URL(message.location().url).pathname}`;
}

/** From now on this request of the page may fail in this way, and has to at least once. */
export function expects(page, status, path) {
  failures.push({ page, what: `${status} ${path}`, seen: 0 });
}

export async function signIn(page) {
  await page.goto("/login");
  await page.getByLabel("Admin token").fill(token);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.waitForURL((url) => url.pathname === "/studio");
}

export async function launch(args = ["--autoplay-policy=no-user-gesture-required"]) {
  const launched = await chromium.launch({ executablePath: findChromium(), chromiumSandbox: false, args: [...alone, ...args] });
  browsers.push(launched);
  return launched;
}

/** Two broadcasts that are on air during all tests. */
export const onAir = {};

before(async () => {
  browser = await launch();
  onAir.game = await create("롤 랭크 게임 밤샘", ["lol", "korean"], { category: "game", language: "ko" });
  onAir.jazz = await create("Night jazz <b>live</b> & \"more\"", ["jazz", "korean"], { category: "music", language: "en", ladder: [144] });
  onAir.gameEncoder = push(onAir.game.key, { height: 360 });
  onAir.jazzEncoder = push(onAir.jazz.key);
  await Promise.all([reaches(onAir.game.id, "live"), reaches(onAir.jazz.id, "live")]);
  await until("both are found", async () => ((await api("GET", "/v1/search?tags=korean")).total === 2 ? true : undefined));
});

after(async () => {
  for (const child of encoders) child.kill("SIGKILL");
  await Promise.all(browsers.map((launched) => launched.close()));
});

export { soonMs, until };
