// Scrolls through the event explorer once it has ROWS rows: only those in sight
// may be in the document, wherever one stands. Prints how long frames took.
import { check, run, until } from "./browser.mjs";

// All rows go through one connection of a server that may be a debug build.
const allRowsMs = 180_000;
const settledMs = 10_000;
const steps = 60;
// Rows in sight and some beside them; far from all.
const mostInDocument = 100;

await run("scroll.mjs BASE_URL TOKEN ROWS", 3, async ({ page }, base, token, rows) => {
  await page.goto(new URL("/login?next=%2Fevents%3Fstream%3DLIVE_TELEMETRY%26from%3Dall", base).href);
  await page.getByLabel("Admin token").fill(token);
  await page.keyboard.press("Enter");
  const counter = page.locator("[data-rows]");
  await counter.waitFor();
  let before = -1;
  let still = performance.now();
  const there = await until(
    "the rows have come",
    async () => {
      const now = Number(await counter.getAttribute("data-rows"));
      if (now !== before) [before, still] = [now, performance.now()];
      // No more come.
      const settled = now > 0 && performance.now() - still > settledMs;
      return settled || now >= Number(rows) ? now : undefined;
    },
    allRowsMs,
  );
  check(there >= Number(rows), `the explorer has ${there} rows, not ${rows}`);
  const scrolled = await page.evaluate(async (count) => {
    const list = document.querySelector(".virtual");
    const frames = [];
    let most = 0;
    let holes = 0;
    for (let step = 0; step <= count; step += 1) {
      const from = performance.now();
      list.scrollTop = ((list.scrollHeight - list.clientHeight) * step) / count;
      await new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)));
      frames.push(performance.now() - from);
      const shown = list.querySelectorAll(".virtual-row");
      most = Math.max(most, shown.length);
      const box = list.getBoundingClientRect();
      const middle = document.elementFromPoint(box.left + 30, box.top + box.height / 2);
      if (!middle?.closest(".virtual-row")) holes += 1;
    }
    frames.sort((a, b) => a - b);
    return { most, holes, median_ms: Math.round(frames[Math.floor(frames.length / 2)]), worst_ms: Math.round(frames.at(-1)) };
  }, steps);
  check(scrolled.most <= mostInDocument, `${scrolled.most} rows are in the document`);
  check(scrolled.holes === 0, `the list was empty at ${scrolled.holes} of ${steps} places`);
  // Text is looked for in all of them.
  await page.locator("input[name=text]").fill("no such text");
  await until("nothing is found", async () => ((await counter.getAttribute("data-rows")) === "0" ? true : undefined));
  await page.locator("input[name=text]").fill("viewers");
  await until("all are found", async () => (Number(await counter.getAttribute("data-rows")) === there ? true : undefined));
  return { rows: there, ...scrolled };
});
