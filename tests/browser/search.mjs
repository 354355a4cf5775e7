// Types a query into the search page, waits for the card of a broadcast, and
// follows it to its watch page.
import { check, oneLine, run } from "./browser.mjs";

await run("search.mjs BASE_URL QUERY BROADCAST_ID", 3, async ({ page }, base, query, id) => {
  await page.goto(new URL("/search", base).href);
  const box = page.getByRole("searchbox");
  await box.pressSequentially(query, { delay: 40 });
  // The answer to this query, not the list that stood there before.
  await page.waitForURL((url) => url.searchParams.get("q") === query);
  const rows = page.locator('[data-state="results"]:not([aria-busy])');
  const card = rows.locator(`[data-broadcast-id="${id}"]`);
  await card.waitFor();
  const link = card.locator("h2 a");
  const found = {
    title: await link.innerText(),
    tags: await card.locator(".tags li").allInnerTexts(),
    heights: await card.locator(".heights li").allInnerTexts(),
    running: oneLine(await card.locator("time").innerText()),
    // How many broadcasts the query leaves.
    rows: await rows.locator("[data-broadcast-id]").count(),
  };
  check(found.heights.length > 0, "the card names no resolution");

  await link.click();
  await page.waitForURL((url) => url.pathname === `/watch/${id}`);
  const article = page.locator("[data-broadcast-state]");
  await article.waitFor();
  const heading = await article.locator("h1").innerText();
  check(heading === found.title, `the card is of “${found.title}”, its page of “${heading}”`);
  return { query, card: found, state: await article.getAttribute("data-broadcast-state") };
});
