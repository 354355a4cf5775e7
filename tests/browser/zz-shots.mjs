import { chromium } from "playwright-core";
const [base, a, c, ended, token] = process.argv.slice(2);
const b = await chromium.launch({ executablePath: "/usr/bin/chromium", chromiumSandbox: false, args: ["--disable-gpu", "--autoplay-policy=no-user-gesture-required"] });
const pages = { live: "/", search: "/search?q=straem", searchall: "/search", none: "/search?q=zebra", tag: "/tags/game", watch: `/watch/${a}`, idle: `/watch/${c}`, ended: `/watch/${ended}`, missing: "/watch/01m000000000000000000000zz", gate: "/studio", nopage: "/nowhere/at/all" };
for (const [w, h, loc] of [[1280, 800, "en-US"], [390, 844, "ko-KR"]]) {
  const ctx = await b.newContext({ viewport: { width: w, height: h }, locale: loc });
  for (const [n, p] of Object.entries(pages)) {
    const page = await ctx.newPage();
    page.on("console", (m) => ["error", "warning"].includes(m.type()) && console.log(w, n, m.type(), m.text(), m.location().url));
    page.on("pageerror", (e) => console.log(w, n, "pageerror", e));
    await page.goto(base + p); await page.waitForTimeout(n === "watch" || n === "ended" ? 4500 : 1500);
    const over = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    if (over > 0) console.log(w, n, "overflows by", over);
    await page.screenshot({ path: `/tmp/br/shots/${w}-${n}.png`, fullPage: true });
    if (n === "gate") {
      await page.fill("#token", token); await page.keyboard.press("Enter"); await page.waitForTimeout(1500);
      await page.screenshot({ path: `/tmp/br/shots/${w}-studio.png`, fullPage: true });
      const over = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
      if (over > 0) console.log(w, "studio overflows by", over);
    }
    await page.close();
  }
  await ctx.close();
}
await b.close();
{
  // The studio's forms at both widths.
  const b = await chromium.launch({ executablePath: "/usr/bin/chromium", chromiumSandbox: false, args: ["--disable-gpu"] });
  for (const w of [1280, 390]) {
    const page = await (await b.newContext({ viewport: { width: w, height: 844 } })).newPage();
    page.on("console", (m) => ["error", "warning"].includes(m.type()) && console.log(w, "key", m.type(), m.text()));
    await page.goto(base + "/studio"); await page.fill("#token", "wrong"); await page.keyboard.press("Enter"); await page.waitForTimeout(800);
    await page.screenshot({ path: `/tmp/br/shots/${w}-refused.png` });
    await page.fill("#token", token); await page.keyboard.press("Enter"); await page.waitForTimeout(800);
    const form = page.locator("form").last();
    await form.locator("input").nth(0).fill("새벽 라디오와 커피"); await form.locator("input").nth(1).fill("radio, 커피");
    await page.locator("summary").first().click();
    await page.screenshot({ path: `/tmp/br/shots/${w}-form.png`, fullPage: true });
    await form.locator("button[type=submit]").click(); await page.locator("input[name=publish-key]").waitFor(); await page.waitForTimeout(300);
    await page.screenshot({ path: `/tmp/br/shots/${w}-key.png`, fullPage: true });
    await page.locator(".own-item button[aria-expanded]").first().click(); await page.waitForTimeout(200);
    await page.screenshot({ path: `/tmp/br/shots/${w}-edit.png`, fullPage: true });
    const over = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    if (over > 0) console.log(w, "edit overflows by", over);
  }
  await b.close();
}
