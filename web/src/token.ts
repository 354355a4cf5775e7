// Playback tokens stand in the path of a stream's URLs, before everything else. Pure.

const inPath = /^((?:https?:\/\/[^/]+)?)\/t\/([\w.-]+)\//;

/** A URL without the token in it: what stays the same when the token is renewed. */
export function withoutToken(url: string): string {
  return url.replace(inPath, "$1/");
}

/** A URL of a private stream with the token of another, newer one of it. */
export function withTokenOf(newest: string, url: string): string {
  const token = inPath.exec(newest)?.[2];
  return token === undefined ? url : url.replace(inPath, `$1/t/${token}/`);
}

// Asked for this long before the one in use ends, so that there is time to ask again.
const aheadMs = 120_000;
const retryMs = 5000;

export interface Renewal {
  url: string;
  /** Milliseconds since 1970. */
  ends: number;
}

/** Asks for a token, and for the next ones before each ends, until the signal. */
export async function keepRenewed(
  ask: () => Promise<Renewal>,
  use: (url: string) => void,
  now: () => number,
  signal: AbortSignal,
): Promise<void> {
  while (!signal.aborted) {
    let pause = retryMs;
    try {
      const { url, ends } = await ask();
      if (signal.aborted) return;
      use(url);
      pause = Math.max(retryMs, ends - now() - aheadMs);
    } catch {
      // Asked for again, for as long as the page is open.
    }
    await rest(pause, signal);
  }
}

function rest(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((done) => {
    const end = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", end);
      done();
    };
    const timer = setTimeout(end, ms);
    signal.addEventListener("abort", end);
  });
}
