// What the scripts of this folder share: finding Chromium, opening a page that
// reaches nothing but this machine, and the one way in which a script reports.
import { accessSync, constants, statSync } from "node:fs";
import { delimiter, join } from "node:path";
import { stripVTControlCharacters } from "node:util";
import { chromium } from "playwright-core";

/** How long a step may take on a busy machine. */
export const soonMs = Number(process.env.CASTLOG_BROWSER_WAIT_MS ?? 60_000);

const names = ["chromium", "chromium-browser", "google-chrome"];

/** Arguments of a Chromium that reaches nothing but this machine: no name resolves, and loopback needs none. */
export const alone = ["--disable-gpu", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost"];

function isProgram(path) {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}

export function findChromium() {
  const chosen = process.env.CHROMIUM;
  if (chosen) {
    if (!isProgram(chosen)) throw new Error(`CHROMIUM names ${chosen}, which is not an executable file`);
    return chosen;
  }
  const folders = (process.env.PATH ?? "").split(delimiter).filter((folder) => folder !== "");
  const found = names.flatMap((name) => folders.map((folder) => join(folder, name))).find(isProgram);
  if (!found) {
    throw new Error(`no Chromium: install one (Debian: chromium) or set CHROMIUM to its path; looked on PATH for ${names.join(", ")}`);
  }
  return found;
}

export function check(holds, otherwise) {
  if (!holds) throw new Error(otherwise);
}

/** Without line breaks and terminal colours. */
export function oneLine(text) {
  return stripVTControlCharacters(text).replaceAll(/\s+/g, " ").trim();
}

/** Waits until `probe` gives something other than undefined. */
export async function until(what, probe, ms = soonMs) {
  const end = performance.now() + ms;
  for (;;) {
    const found = await probe();
    if (found !== undefined) return found;
    if (performance.now() > end) throw new Error(`${what}: not within ${ms / 1000} s`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/** A page, the script's notes, and what went wrong in it behind the script's back. */
async function open(browser) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, locale: "en-US" });
  const page = await context.newPage();
  page.setDefaultTimeout(soonMs);
  const errors = [];
  page.on("console", (message) => {
    // The browser itself writes a line for every answer that is no success;
    // which of them are expected is up to the script, by `badAnswers`.
    if (message.type() === "error" && !message.text().startsWith("Failed to load resource")) errors.push(message.text());
  });
  page.on("pageerror", (error) => errors.push(error.stack ?? String(error)));
  const badAnswers = [];
  page.on("response", (response) => {
    if (response.status() >= 400) badAnswers.push(`${response.status()} ${new URL(response.url()).pathname}`);
  });
  return { page, errors, badAnswers };
}

/**
 * Runs a script: prints what it returns as JSON and exits with 0, or says in
 * a few lines what does not hold and exits with 1.
 */
export async function run(usage, wanted, script) {
  const given = process.argv.slice(2);
  if (given.length !== wanted) {
    console.error(`usage: node ${usage}`);
    process.exit(64);
  }
  let browser;
  let opened;
  try {
    browser = await chromium.launch({
      executablePath: findChromium(),
      headless: true,
      chromiumSandbox: false,
      args: [...alone, "--autoplay-policy=no-user-gesture-required"],
    });
    opened = await open(browser);
    const result = await script(opened, ...given);
    check(opened.errors.length === 0, `errors on the page: ${opened.errors.join(" | ")}`);
    console.log(JSON.stringify({ ...result, bad_answers: opened.badAnswers }, null, 2));
  } catch (error) {
    console.error(oneLine(error instanceof Error ? error.message : String(error)));
    if (opened) {
      const seen = await opened.page.locator("main").innerText({ timeout: 1000 }).catch(() => "");
      if (seen) console.error(`the page shows: ${oneLine(seen).slice(0, 400)}`);
      if (opened.badAnswers.length > 0) console.error(`answers: ${[...new Set(opened.badAnswers)].join(", ")}`);
      if (process.env.CASTLOG_SCREENSHOT) await opened.page.screenshot({ path: process.env.CASTLOG_SCREENSHOT }).catch(() => {});
    }
    process.exitCode = 1;
  } finally {
    await browser?.close();
  }
}
