// Opens a watch page of a broadcast that does not exist: it must say so, and
// nothing may be decoded.
import { check, run } from "./browser.mjs";

await run("missing.mjs WATCH_URL", 1, async ({ page, badAnswers }, url) => {
  await page.goto(url);
  const notice = page.locator('main [data-state="empty"]');
  await notice.waitFor();
  check(
    badAnswers.some((answer) => answer.startsWith("404 /v1/broadcasts/")),
    "the page says that there is no such broadcast, and the API did not",
  );
  check((await page.locator("video").count()) === 0, "there is a player although there is no broadcast");
  check(await page.evaluate(() => window.__castlog === undefined), "something is playing although there is no broadcast");
  return { shown: await notice.locator("h1").innerText(), title: await page.title() };
});
