// Types a query that no live broadcast matches into the search page: the rows
// that stand there at first must give way to the empty state.
import { check, run } from "./browser.mjs";

await run("nothing.mjs BASE_URL QUERY", 2, async ({ page }, base, query) => {
  await page.goto(new URL("/search", base).href);
  // Before the first letter the page lists what is on air, if anything.
  await page.locator('main [data-state="results"], main [data-state="empty"]').first().waitFor();
  const before = await page.locator("[data-broadcast-id]").count();
  await page.getByRole("searchbox").pressSequentially(query, { delay: 40 });
  await page.waitForURL((url) => url.searchParams.get("q") === query);
  const notice = page.locator('main [data-state="empty"]');
  await notice.waitFor();
  check((await page.locator("[data-broadcast-id]").count()) === 0, "rows stand beside the empty state");
  return { query, shown: await notice.locator("h2").innerText(), rows_before: before };
});
