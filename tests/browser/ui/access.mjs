// Point 20: axe on every page, and nothing in the console; and the sizes.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { test } from "node:test";
import { gzipSync } from "node:zlib";
import { api, base, complaints, create, expects, failures, onAir, open, push, reaches, until } from "./stage.mjs";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22a", "wcag22aa", "best-practice"];

// 200 % zoom halves the page's pixels.
const sizes = { "320 px": { width: 320, height: 640 }, "200 %": { width: 640, height: 400 } };

// All of them, in an order in which little changes from one to the next.
const ways = ["en", "ko"].flatMap((language) =>
  ["light", "dark"].flatMap((colours) => Object.keys(sizes).map((size) => [language, colours, size])),
);

const unknown = "01m000000000000000000000zz";

/** A broadcast that is over and was recorded. */
async function recorded() {
  const made = await create("Was on", [], { record: true, ladder: [144] });
  const encoder = push(made.key);
  await reaches(made.id, "live");
  await until("it is produced", async () => (await api("GET", `/v1/broadcasts/${made.id}`)).metadata ?? undefined);
  await encoder.stop();
  await reaches(made.id, "ended");
  return made;
}

const pages = (past) => [
  ["/", "[data-broadcast-id] img"],
  ["/search?q=a", "[data-state=results], [data-state=empty]"],
  ["/search?q=zebra", "[data-state=empty]"],
  ["/tags/korean", "[data-broadcast-id]"],
  [`/watch/${onAir.game.id}`, "[data-player=playing]"],
  [`/watch/${past.id}`, ".recordings [aria-current]"],
  [`/watch/${unknown}`, "[data-state=empty]"],
  ["/nothing/here", "h1"],
  ["/studio", "[data-broadcast-id]"],
  ["/studio/new", "form"],
  [`/studio/${onAir.game.id}`, "[data-samples]"],
  [`/events?from=all`, ".virtual-row"],
  ["/events/BROAD_INFO/1", ".code-block"],
  ["/events/consumers", "[data-consumer]"],
  ["/events/dead-letters", "[data-state=results], [data-state=empty]"],
  // What comes when one does something.
  [`/watch/${onAir.game.id}`, "[data-player=playing]", (page) => page.keyboard.press("?"), "dialog[open]"],
  ["/studio/new", "form", newKey, "[data-issued-for]"],
  [`/studio/${onAir.game.id}`, "[data-samples]", (page) => page.locator("button.danger").first().click(), "[role=group]"],
  ["/events?kind=title&from=all", ".row-pick", (page) => page.locator(".row-pick").first().click(), ".picked .code-block"],
];

async function newKey(page) {
  await page.locator("main input[name=title]").fill("Looked at");
  await page.locator("main form button[type=submit]").click();
}

let looks = 0;

/** What axe finds on the page as it stands, and whether it is wider than the window. */
async function look(page, where) {
  looks += 1;
  const found = await page.evaluate(async (values) => {
    const { violations } = await window.axe.run(document, { runOnly: { type: "tag", values }, resultTypes: ["violations"] });
    return violations.map(({ id, nodes }) => `${id}: ${nodes.slice(0, 3).map(({ html }) => html.slice(0, 160)).join(" | ")}`);
  }, tags);
  const wider = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  return [...found, ...(wider > 0 ? [`wider than the window by ${wider} px`] : [])].map((what) => `${where}: ${what}`);
}

async function everyWay(page, path) {
  const found = [];
  for (const [language, colorScheme, size] of ways) {
    await page.locator("select.language").selectOption(language);
    await until(language, async () => ((await page.locator("html").getAttribute("lang")) === language ? true : undefined));
    await page.emulateMedia({ colorScheme });
    await page.setViewportSize(sizes[size]);
    found.push(...(await look(page, `${path} ${language} ${colorScheme} ${size}`)));
  }
  return found;
}

test("20 axe finds nothing on any page, in both languages, light and dark, narrow and zoomed", async (t) => {
  const found = [];
  const left = pages(await recorded());
  // Two at a time: most of it is computing, in the process of the page.
  const work = async () => {
    const page = await open({ signedIn: true, reducedMotion: "reduce" });
    for (let next = left.shift(); next; next = left.shift()) {
      const [path, there, act, then] = next;
      if (path.endsWith(unknown)) expects(page, 404, `/v1/broadcasts/${unknown}`);
      await page.goto(path);
      await page.locator(there).first().waitFor();
      if (act) {
        await act(page);
        await page.locator(then).first().waitFor();
      }
      await page.evaluate(axe);
      // What is folded away counts as well.
      await page.locator("details").evaluateAll((all) => all.forEach((one) => (one.open = true)));
      found.push(...(await everyWay(page, path)));
    }
    await page.context().close();
  };
  await Promise.all([work(), work()]);
  const guest = await open({ reducedMotion: "reduce" });
  await guest.goto("/login");
  await guest.getByLabel("Admin token").waitFor();
  await guest.evaluate(axe);
  found.push(...(await everyWay(guest, "/login")));
  t.diagnostic(`${looks} looks`);
  assert.deepEqual(found, []);

  // The measure can fail.
  await guest.evaluate(() => document.querySelector("label[for=token]").remove());
  assert.notDeepEqual(await look(guest, "/login without its label"), []);
  await guest.context().close();
});

test("20 no page has complained: no error in the console, and no request failed but those that were to", () => {
  assert.deepEqual(complaints, []);
  assert.deepEqual(failures.filter(({ seen }) => seen === 0).map(({ what }) => what), []);
});

test("the list page starts with 120 kB of scripts at most; player and explorer come on demand", async (t) => {
  const html = await (await fetch(base)).text();
  const scripts = [...html.matchAll(/(?:src|href)="(\/assets\/[^"]+\.js)"/g)].map(([, path]) => path);
  const texts = await Promise.all(scripts.map(async (path) => (await fetch(base + path)).text()));
  const size = texts.reduce((sum, text) => sum + gzipSync(text).length, 0);
  t.diagnostic(`${(size / 1000).toFixed(1)} kB in ${scripts.length} files`);
  assert.ok(scripts.length > 0 && size <= 120_000, `${size} bytes in ${scripts}`);
  assert.ok(!scripts.some((path) => /hls|events|health/.test(path)), String(scripts));

  const page = await open();
  const loaded = [];
  page.on("request", (request) => loaded.push(new URL(request.url()).pathname));
  await page.goto("/");
  await page.locator("[data-broadcast-id]").first().waitFor();
  const asked = loaded.filter((path) => path.endsWith(".js"));
  assert.deepEqual(asked.sort(), scripts.sort());
  await page.context().close();
});
