// Point 19: the event explorer.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { test } from "node:test";
import { api, create, expects, onAir, open, until } from "./stage.mjs";

const rows = (page) => page.locator(".virtual-row");

test("19 the log: a tree with counts, a tail with pause, starts, filters, decoded and raw", async () => {
  const page = await open({ signedIn: true });
  await page.goto("/events");
  await page.locator('[data-tail="open"]').waitFor();
  const counted = (kind) => page.locator(`[data-kind="${kind}"] > .branch .leaf-count`).innerText();
  const { streams } = await api("GET", "/v1/log/streams");
  const titles = streams[0].kinds.find(({ kind }) => kind === "title").entries;
  await until("the count of titles", async () => (Number(await counted("title")) === titles ? true : undefined));

  // What happens comes, and waits while paused.
  const title = (text) => api("PUT", `/v1/broadcasts/${onAir.jazz.id}/title`, { title: text });
  await title("Heard one");
  await rows(page).filter({ hasText: "Heard one" }).waitFor();
  await page.getByRole("button", { name: "Pause" }).click();
  await title("Heard two");
  await title(onAir.jazz.title);
  await until("what was skipped is counted", async () =>
    (await page.locator('[data-tail="paused"]').innerText()) === "Paused. Skipped so far: 2" ? true : undefined,
  );
  assert.equal(await rows(page).filter({ hasText: "Heard two" }).count(), 0);
  await page.getByRole("button", { name: "Go on" }).click();
  await rows(page).filter({ hasText: "Heard two" }).waitFor();

  // From the beginning, by subject, broadcast and text.
  const from = page.locator("select[name=from]");
  await from.focus();
  await from.selectOption("all");
  await page.waitForURL("**/events?from=all");
  assert.ok(await from.evaluate((field) => field === document.activeElement), "the keyboard is lost");
  await page.locator('[data-kind="title"] > .branch .leaf').click();
  const shown = (n) => until(`${n} rows`, async () => ((await page.locator(`[data-rows="${n}"]`).count()) === 1 ? true : undefined));
  await shown(titles + 3);
  await page.locator("input[name=text]").fill("heard");
  await shown(2);
  await page.locator("input[name=text]").fill("");
  await page.getByRole("button", { name: "Show the broadcasts of title" }).click();
  await page.getByRole("button", { name: onAir.game.id }).click();
  await shown(1);
  const here = new URL(page.url()).searchParams;
  assert.deepEqual([here.get("kind"), here.get("broadcast"), here.get("from")], ["title", onAir.game.id, "all"]);
  await page.reload();
  await shown(1);

  // Several streams: what was comes merged by time.
  await page.goto(`/events?broadcast=${onAir.game.id}&from=all`);
  await until("the past of both streams", async () => {
    const shownNow = await rows(page).locator(".row-place").allInnerTexts();
    return ["BROAD_INFO", "LIVE_STREAM"].every((stream) => shownNow.some((place) => place.startsWith(stream))) ? true : undefined;
  });
  const times = await rows(page).locator(".row-time").allInnerTexts();
  assert.ok(times.length > 6, String(times));
  assert.deepEqual(times, [...times].sort());

  // By sequence and by time.
  const seq = (await api("GET", `/v1/broadcasts/${onAir.jazz.id}`)).versions.title;
  await page.goto("/events");
  await page.locator("select[name=from]").selectOption("seq");
  await page.locator("select[name=stream]").selectOption("BROAD_INFO");
  await page.locator("input[name=seq]").fill("nonsense");
  await page.getByRole("button", { name: "Read from there" }).click();
  await page.getByRole("alert").waitFor();
  await page.locator("input[name=seq]").fill(String(seq - 1));
  await page.getByRole("button", { name: "Read from there" }).click();
  await rows(page).filter({ hasText: `BROAD_INFO ${seq - 1}` }).waitFor();
  assert.equal(await rows(page).filter({ hasText: "registration" }).count(), 0);
  await page.goto(`/events?kind=status&from=time:${encodeURIComponent(new Date(Date.now() + 3600_000).toISOString())}`);
  await page.locator('[data-tail="open"]').waitFor();
  await shown(0);
  await page.goto("/events?kind=status&from=time:2026-01-01T00:00:00Z");
  await rows(page).filter({ hasText: onAir.game.id }).first().waitFor();

  // Decoded and raw, beside the list and on a page of its own.
  await page.goto(`/events?kind=title&broadcast=${onAir.game.id}&from=all`);
  await page.locator(".row-pick").click();
  const decoded = page.getByRole("region", { name: "Decoded" });
  await decoded.waitFor();
  assert.ok((await decoded.innerText()).includes(onAir.game.title));
  await page.getByRole("link", { name: "Own page" }).click();
  await page.waitForURL("**/events/BROAD_INFO/*");
  assert.ok((await decoded.innerText()).includes(onAir.game.title));
  const hex = Buffer.from("롤").toString("hex").match(/../g).join(" ");
  assert.ok((await page.getByRole("region", { name: "Raw payload" }).innerText()).includes(hex));
  assert.match(await page.locator("main").innerText(), /ce-id/);
  expects(page, 404, "/v1/log/streams/BROAD_INFO/entries/99999999");
  await page.goto("/events/BROAD_INFO/99999999");
  await page.getByText("No such entry").waitFor();
  await page.context().close();
});

test("19 the explorer goes on where it was after an answer that is no stream", async () => {
  const page = await open({ signedIn: true });
  expects(page, 503, "/v1/events");
  const event = { stream: "BROAD_INFO", seq: 1, subject: `media.broad_info.title.${onAir.jazz.id}`, data: { changed: { title: "Came before" } } };
  const answers = [
    { status: 200, contentType: "text/event-stream", body: `retry: 200\nid: 1-1\nevent: title\ndata: ${JSON.stringify(event)}\n\n` },
    { status: 503, body: "" },
  ];
  const asked = [];
  await page.route(/\/v1\/events(\?|$)/, (route) => {
    asked.push(new URL(route.request().url()).searchParams.get("last_event_id"));
    const answer = answers.shift();
    return answer ? route.fulfill(answer) : route.continue();
  });
  await page.goto("/events");
  await rows(page).filter({ hasText: "Came before" }).waitFor();
  // What the log has behind it.
  const count = async () => Number(await page.locator("[data-rows]").getAttribute("data-rows"));
  await until("more rows", async () => ((await count()) > 1 ? true : undefined));
  assert.deepEqual(asked, [null, null, "1-1"]);
  await page.context().close();
});

/** Puts a letter where a consumer puts one for an entry that it cannot apply. */
function bury(entry, reason) {
  const { NATS_URL, NATS_OPERATOR_USER, NATS_OPERATOR_PASSWORD, NATS_BIN = "nats" } = process.env;
  const headers = [
    ...entry.headers.filter(({ name }) => !name.startsWith("Nats-")).map(({ name, value }) => `${name}:${value}`),
    `Castlog-Dead-Letter-Stream:${entry.stream}`,
    `Castlog-Dead-Letter-Sequence:${entry.seq}`,
    `Castlog-Dead-Letter-Subject:${entry.subject}`,
    "Castlog-Dead-Letter-Consumer:live_info",
    `Castlog-Dead-Letter-Reason:${reason}`,
  ];
  const subject = `castlog.dead_letter.${entry.stream}.live_info`;
  execFileSync(
    NATS_BIN,
    ["--server", NATS_URL, "--user", NATS_OPERATOR_USER, "--password", NATS_OPERATOR_PASSWORD, "pub", "--jetstream", "--force-stdin", ...headers.flatMap((header) => ["--header", header]), subject],
    { input: Buffer.from(entry.payload_hex, "hex"), stdio: ["pipe", "ignore", "inherit"] },
  );
}

test("19 consumers and dead letters: lag, and trying again after a question, on the record", async () => {
  const page = await open({ signedIn: true });
  await page.goto("/events/consumers");
  await page.locator('[data-consumer="live_info/BROAD_INFO"]').waitFor();
  const { consumers } = await api("GET", "/v1/log/consumers");
  assert.equal(await page.locator("[data-consumer]").count(), consumers.length);
  await page.goto("/events/dead-letters");
  await page.getByText("No dead letters.").waitFor();

  const { id } = await create("Given up", []);
  const { seq } = (await api("GET", `/v1/broadcasts/${id}`).then(({ versions }) => ({ seq: versions.title })));
  const entry = await api("GET", `/v1/log/streams/BROAD_INFO/entries/${seq}`);
  bury(entry, "L08: was too new <b>for</b> it");
  bury({ ...entry, payload_hex: "ff" }, "L07: payload is not a title message");
  const letter = page.locator("[data-letter]");
  await until("both letters", async () => ((await letter.count()) === 2 ? true : undefined));
  const good = letter.filter({ hasText: "was too new <b>for</b> it" });
  const bad = letter.filter({ hasText: "L07" });
  await good.getByRole("button", { name: "Show the payload" }).click();
  await good.getByRole("region").filter({ hasText: "Given up" }).waitFor();
  const again = async (which) => {
    await which.getByRole("button", { name: "Try again" }).click();
    assert.match(await which.getByRole("group").innerText(), /Hand this entry to live_info again\?/);
    await which.getByRole("button", { name: "Hand it over" }).click();
  };
  await again(good);
  await page.getByText(/Letter \d+ was applied by live_info\./).waitFor();
  await good.waitFor({ state: "detached" });
  expects(page, 409, `/v1/log/dead-letters/${await bad.getAttribute("data-letter")}/redrive`);
  await again(bad);
  await bad.getByRole("alert").filter({ hasText: "A21" }).waitFor();
  assert.equal((await api("GET", "/v1/log/dead-letters")).items.length, 1);

  // Who tried which letter, and what came of it, is on record, over HTTP and on the page.
  const { items } = await api("GET", "/v1/log/dead-letters/attempts");
  assert.deepEqual(items.map(({ outcome }) => outcome), ["kept", "applied"]);
  const tried = page.locator("[data-attempt]");
  await until("both attempts", async () => ((await tried.count()) === 2 ? true : undefined));
  assert.match(await tried.first().innerText(), /^Letter \d+ tried again\s+Kept.*L07.*live_info, BROAD_INFO \d+\. By admin, signed in on the pages, request \w+/s);
  assert.equal(await tried.last().getAttribute("data-outcome"), "applied");
  await page.context().close();
});
