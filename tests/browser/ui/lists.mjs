// Points 1 to 9: what is live, and the search.
import assert from "node:assert/strict";
import { test } from "node:test";
import { base, create, expects, onAir, open, push, until } from "./stage.mjs";

const cards = '[data-state="results"]:not([aria-busy]) [data-broadcast-id]';
const ids = (page) => page.locator(cards).evaluateAll((found) => found.map((card) => card.dataset.broadcastId));
const isSearch = (request) => new URL(request.url()).pathname === "/v1/search";

/** When what the page needed began and ended, in milliseconds since it was opened. */
const waterfall = (page) =>
  page.evaluate(() => {
    const [{ responseEnd }] = performance.getEntriesByType("navigation");
    const rest = performance.getEntriesByType("resource").filter(({ initiatorType }) => initiatorType !== "img");
    const times = rest.map(({ name, startTime, responseEnd: end }) => `${new URL(name).pathname} ${Math.round(startTime)}–${Math.round(end)}`);
    return [`page –${Math.round(responseEnd)}`, ...times.slice(0, 8)].join(", ");
  });

/** Waits until the list shows exactly these. */
async function shows(page, wanted) {
  await until(`the list shows ${wanted.length}`, async () => {
    const found = await ids(page);
    return found.length === wanted.length && wanted.every((id) => found.includes(id)) ? true : undefined;
  });
}

test("1 first cards come at once, and nothing moves as pictures load", async (t) => {
  const page = await open();
  await page.addInitScript(() => {
    window.shifts = [];
    new PerformanceObserver((list) => window.shifts.push(...list.getEntries().map(({ value }) => value))).observe({
      type: "layout-shift",
      buffered: true,
    });
    window.firstCard = new Promise((resolve) => {
      new MutationObserver(() => {
        if (document.querySelector("[data-broadcast-id]")) resolve(performance.now());
      }).observe(document, { childList: true, subtree: true });
    });
  });
  const asked = [];
  page.on("request", (request) => request.url().includes("/v1/") && asked.push(new URL(request.url()).pathname));
  await page.goto("/");
  t.diagnostic(`first card after ${Math.round(await page.evaluate(() => window.firstCard))} ms: ${await waterfall(page)}`);
  // One question, and the one of the session, which no card waits for.
  assert.deepEqual([...new Set(asked)].sort(), ["/v1/broadcasts", "/v1/session"]);
  // Two trips one after the other: the page, then its scripts and the answer side by side, for it names them all.
  const [answers, scripts] = await page.evaluate(async () => {
    const first = await window.firstCard;
    const entries = performance.getEntriesByType("resource").filter(({ startTime }) => startTime < first);
    const of = (pattern) => entries.filter(({ name }) => pattern.test(new URL(name).pathname));
    return [of(/^\/v1\/broadcasts/).map(({ initiatorType }) => initiatorType), of(/\.js$/).map(({ name }) => new URL(name).pathname)];
  });
  assert.deepEqual(answers, ["link"]);
  const html = await (await fetch(base)).text();
  assert.ok(scripts.length > 0 && scripts.every((path) => html.includes(path)), `a script waits for another: ${scripts}`);
  await until("every card has its picture", async () =>
    (await page.locator(`${cards} img`).evaluateAll((all) => all.filter((img) => img.naturalWidth > 0).length)) === 2 ? true : undefined,
  );
  const shifts = await page.evaluate(() => window.shifts);
  assert.equal(shifts.reduce((sum, value) => sum + value, 0), 0, `shifts: ${shifts}`);
  await page.context().close();
});

test("2 a card says what it is of, and is one stop for the keyboard", async () => {
  const page = await open();
  await page.goto("/");
  const card = page.locator(`[data-broadcast-id="${onAir.game.id}"]`);
  await card.waitFor();
  const text = await card.innerText();
  for (const said of ["LIVE", "watching", onAir.game.title, "#lol", "#korean", "360p"]) assert.ok(text.includes(said), `${said} in ${text}`);
  assert.match(await card.locator("time").innerText(), /^\d+:\d\d:\d\d$/);
  await until("its picture", async () => ((await card.locator("img").count()) === 1 ? true : undefined));
  assert.equal(await card.locator("a, button, input, [tabindex]").count(), 1);
  await card.locator("a").focus();
  await page.keyboard.press("Tab");
  assert.equal(await card.locator(":focus").count(), 0, "the card has a second stop");
  const picture = await card.locator(".thumb").boundingBox();
  await page.mouse.click(picture.x + picture.width / 2, picture.y + picture.height / 2);
  await page.waitForURL(`**/watch/${onAir.game.id}`);
  await page.context().close();
});

test("3 results come as one types, and a stale answer never overwrites a newer one", async (t) => {
  const page = await open();
  await page.goto("/search");
  await shows(page, [onAir.game.id, onAir.jazz.id]);
  const box = page.getByRole("searchbox");
  // From the key to its result, by the page's clock.
  await page.evaluate((gone) => {
    window.keyed = new Promise((resolve) => {
      document.addEventListener("input", (event) => {
        const from = event.timeStamp;
        const watch = new MutationObserver(() => {
          if (!document.querySelector(`[data-broadcast-id="${gone}"]`)) resolve(performance.now() - from);
        });
        watch.observe(document.body, { childList: true, subtree: true });
      }, { once: true });
    });
  }, onAir.game.id);
  await box.press("j");
  t.diagnostic(`results ${Math.round(await page.evaluate(() => window.keyed))} ms after the key`);
  await shows(page, [onAir.jazz.id]);
  // The same, five times more, as people do it: of the time from the key, how much is the answer's.
  const took = [];
  for (const text of ["jazz", "롤", "night", "밤", "jazz"]) {
    const answered = page.waitForResponse((response) => isSearch(response) && new URL(response.url()).searchParams.get("q") === text);
    await page.evaluate(() => {
      document.addEventListener("input", (event) => (window.keyedAt = event.timeStamp), { once: true });
      performance.clearResourceTimings();
    });
    await box.fill(text);
    await (await answered).finished();
    took.push(
      await page.evaluate((q) => {
        const entry = performance.getEntriesByType("resource").find(({ name }) => new URL(name).searchParams.get("q") === q);
        return [entry.startTime - window.keyedAt, entry.responseEnd - entry.startTime].map(Math.round).join(" + ");
      }, text),
    );
  }
  t.diagnostic(`from the key to the question + to the answer, in ms: ${took.join(", ")}`);
  await shows(page, [onAir.jazz.id]);

  // The answer to "롤" is held back until that to "jazz" is there.
  let release;
  const held = new Promise((resolve) => (release = resolve));
  await page.route((url) => url.pathname === "/v1/search" && url.searchParams.get("q") === "롤", async (route) => {
    await held;
    await route.continue().catch(() => undefined);
  });
  const asked = page.waitForRequest((request) => isSearch(request) && new URL(request.url()).searchParams.get("q") === "롤");
  await box.fill("롤");
  await asked;
  await box.fill("jazz");
  await page.waitForURL((url) => url.searchParams.get("q") === "jazz");
  await shows(page, [onAir.jazz.id]);
  release();
  const next = await page.waitForResponse((response) => isSearch(response));
  assert.equal(new URL(next.url()).searchParams.get("q"), "jazz");
  assert.deepEqual(await ids(page), [onAir.jazz.id]);
  await page.context().close();
});

test("4 an input method loses no jamo and submits nothing twice", async () => {
  const page = await open();
  await page.goto("/search");
  await shows(page, [onAir.game.id, onAir.jazz.id]);
  const asked = [];
  page.on("request", (request) => isSearch(request) && asked.push(new URL(request.url()).searchParams.get("q") ?? ""));
  const box = page.getByRole("searchbox");
  await box.focus();
  const keys = await page.context().newCDPSession(page);
  const compose = (text) => keys.send("Input.imeSetComposition", { text, selectionStart: text.length, selectionEnd: text.length });
  await compose("ㄹ");
  await compose("로");
  await compose("롤");
  // The list is there while the syllable may still grow.
  await page.waitForURL((url) => url.searchParams.get("q") === "롤");
  const url = page.url();
  await page.evaluate(() => {
    window.submitted = 0;
    document.addEventListener("submit", () => (window.submitted += 1), true);
    const event = new KeyboardEvent("keydown", { key: "Enter", bubbles: true, cancelable: true, isComposing: true });
    window.taken = !document.activeElement.dispatchEvent(event);
  });
  assert.deepEqual(await page.evaluate(() => [window.taken, window.submitted]), [true, 0], "Enter while composing does something");
  await keys.send("Input.insertText", { text: "롤" });
  await shows(page, [onAir.game.id]);
  assert.equal(await box.inputValue(), "롤");
  assert.equal(page.url(), url);
  assert.ok(!asked.includes("ㄹ"), `half a syllable was searched: ${asked}`);
  // Afterwards Enter is Enter.
  await page.keyboard.press("Enter");
  assert.equal(await page.evaluate(() => window.submitted), 1);
  assert.equal(await box.inputValue(), "롤");
  await page.context().close();
});

test("5 matches are highlighted, of typos too, and markup stays text", async () => {
  const page = await open();
  const marks = () => page.locator(`[data-broadcast-id="${onAir.jazz.id}"] mark`).allInnerTexts();
  for (const [query, wanted] of [["jaz", "jaz"], ["nihgt", "Night"], ["more", "more"]]) {
    await page.goto(`/search?q=${query}`);
    await shows(page, [onAir.jazz.id]);
    assert.deepEqual(await marks(), [wanted], query);
  }
  const title = page.locator(`[data-broadcast-id="${onAir.jazz.id}"] h2`);
  assert.equal(await title.innerText(), onAir.jazz.title);
  assert.equal(await title.locator("b").count(), 0, "the title became markup");
  await page.context().close();
});

test("6 facets count, widen within and narrow across", async () => {
  const page = await open();
  await page.goto("/search");
  const box = (facet, value) => page.locator(`input[name="${facet}"][value="${value}"]`);
  const count = (facet, value) => page.locator(`label:has(input[name="${facet}"][value="${value}"]) .facet-count`).innerText();
  await box("tags", "korean").waitFor();
  assert.deepEqual(
    [await count("tags", "korean"), await count("tags", "jazz"), await count("resolutions", "360"), await count("category", "music"), await count("language", "ko")],
    ["2", "1", "1", "1", "1"],
  );
  await box("tags", "jazz").check();
  await shows(page, [onAir.jazz.id]);
  assert.equal(await count("tags", "lol"), "1", "what choosing another value would give");
  await box("tags", "lol").check();
  await shows(page, [onAir.game.id, onAir.jazz.id]);
  await box("category", "music").check();
  await shows(page, [onAir.jazz.id]);
  await box("language", "en").check();
  await shows(page, [onAir.jazz.id]);
  await page.getByRole("button", { name: "Remove filters" }).click();
  await shows(page, [onAir.game.id, onAir.jazz.id]);
  await page.context().close();
});

test("7 query, filters, sort and page survive reload, Back and sharing", async () => {
  const page = await open();
  await page.goto("/search");
  await page.getByRole("searchbox").fill("jazz");
  await page.waitForURL((url) => url.searchParams.get("q") === "jazz");
  await page.locator('input[name="tags"][value="korean"]').check();
  await page.locator("select[name=sort]").selectOption("started_at:asc");
  await page.waitForURL((url) => url.searchParams.get("sort") === "started_at:asc");
  const state = async (of) => [
    await of.getByRole("searchbox").inputValue(),
    await of.locator('input[name="tags"][value="korean"]').isChecked(),
    await of.locator("select[name=sort]").inputValue(),
  ];
  const wanted = ["jazz", true, "started_at:asc"];
  await page.reload();
  await shows(page, [onAir.jazz.id]);
  assert.deepEqual(await state(page), wanted);
  const friend = await open({ locale: "ko-KR" });
  await friend.goto(page.url());
  await shows(friend, [onAir.jazz.id]);
  assert.deepEqual(await state(friend), wanted);
  await page.locator(`${cards} a`).click();
  await page.waitForURL("**/watch/*");
  await page.goBack();
  await shows(page, [onAir.jazz.id]);
  assert.deepEqual(await state(page), wanted);
  await page.goBack();
  await until("the sort before", async () => ((await state(page))[2] === "" ? true : undefined));
  // A page past the end says so, and leads back.
  await page.goto("/search?page=7");
  await page.locator('[data-state="empty"]').waitFor();
  assert.equal(new URL(page.url()).searchParams.get("page"), "7");
  for (const one of [page, friend]) await one.context().close();
});

test("8 empty, loading and error are distinct, each with an action", async () => {
  const page = await open();
  await page.goto("/search?q=zebra");
  const empty = page.locator('[data-state="empty"]');
  await empty.waitFor();
  await empty.getByRole("button", { name: "Clear the search" }).click();
  await shows(page, [onAir.game.id, onAir.jazz.id]);

  let release;
  const held = new Promise((resolve) => (release = resolve));
  await page.route("**/v1/broadcasts?*", async (route) => {
    await held;
    await route.continue();
  });
  await page.goto("/");
  const loading = page.locator('[data-state="loading"]');
  await loading.waitFor();
  // It comes when waiting has become long.
  await loading.getByRole("button", { name: "Try again" }).waitFor();
  assert.equal(await page.locator('[data-state="empty"], [data-state="error"]').count(), 0);
  release();
  await shows(page, [onAir.game.id, onAir.jazz.id]);

  await page.unroute("**/v1/broadcasts?*");
  expects(page, "net::ERR_CONNECTION_REFUSED", "/v1/broadcasts");
  await page.route("**/v1/broadcasts?*", (route) => route.abort("connectionrefused"));
  // What was there stays, with a word about it.
  await page.locator('[data-state="stale"]').waitFor();
  assert.equal((await ids(page)).length, 2);
  await page.reload();
  const failed = page.locator('[data-state="error"]');
  await failed.waitFor();
  await page.unroute("**/v1/broadcasts?*");
  await failed.getByRole("button", { name: "Try again" }).click();
  await shows(page, [onAir.game.id, onAir.jazz.id]);
  await page.context().close();
});

test("9 a broadcast that starts appears in the lists, and leaves them when it ends", async (t) => {
  const pages = await Promise.all([open(), open(), open()]);
  for (const [place, path] of ["/", "/search?q=guest", "/tags/guest"].entries()) await pages[place].goto(path);
  for (const page of pages) await page.evaluate(() => (window.sameDocument = true));
  const guest = await create("A guest", ["guest"]);
  const card = (page) => page.locator(`[data-broadcast-id="${guest.id}"]`);
  const timed = async (what, done) => {
    const from = performance.now();
    await Promise.all(pages.map(done));
    t.diagnostic(`${what} ${Math.round(performance.now() - from)} ms`);
  };
  const encoder = push(guest.key);
  await timed("from the start of the encoder to the lists:", (page) => card(page).waitFor());
  await encoder.stop();
  await timed("from its end until it has left them:", (page) => card(page).waitFor({ state: "detached" }));
  for (const page of pages) {
    assert.equal(await page.evaluate(() => window.sameDocument), true, "the page was loaded anew");
    await page.context().close();
  }
});
