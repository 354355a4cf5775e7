// Keeps one answer of the server fresh while the page is visible. Answers that
// were overtaken (the key changed, or a newer request began) are dropped, so an
// old answer never replaces a newer one.
import { useCallback, useEffect, useRef, useState } from "react";
import { ApiError } from "./api";

export interface Polled<T> {
  data: T | undefined;
  /** Why the newest attempt failed; `data` then is the last good answer to the same key. */
  error: ApiError | undefined;
  /** `data` answers an earlier key; the answer to this one is on its way. */
  stale: boolean;
  refresh: () => void;
}

interface Kept<T> {
  good?: { key: string; data: T };
  bad?: { key: string; error: ApiError };
}

// After failures the pause doubles up to this many times: a server that is
// down is asked every 24 s instead of every 3.
const maxDoublings = 3;

export function usePolled<T>(key: string, load: (signal: AbortSignal) => Promise<T>, everyMs: number): Polled<T> {
  const [kept, setKept] = useState<Kept<T>>({});
  const latestLoad = useRef(load);
  const start = useRef<() => void>(() => undefined);
  useEffect(() => {
    latestLoad.current = load;
  });

  useEffect(() => {
    let controller = new AbortController();
    let timer: number | undefined;
    let failures = 0;

    const schedule = () => {
      if (document.visibilityState !== "visible") return;
      timer = window.setTimeout(run, everyMs * 2 ** Math.min(failures, maxDoublings));
    };
    const run = () => {
      window.clearTimeout(timer);
      controller.abort();
      const mine = (controller = new AbortController());
      latestLoad.current(mine.signal).then(
        (data) => {
          if (mine.signal.aborted) return;
          failures = 0;
          setKept({ good: { key, data } });
          schedule();
        },
        (cause: unknown) => {
          if (mine.signal.aborted) return;
          failures += 1;
          const error = cause instanceof ApiError ? cause : new ApiError(0, String(cause));
          setKept((before) => ({ ...before, bad: { key, error } }));
          schedule();
        },
      );
    };
    const onVisibility = () => {
      if (document.visibilityState === "visible") run();
      else window.clearTimeout(timer);
    };

    start.current = run;
    run();
    document.addEventListener("visibilitychange", onVisibility);
    return () => {
      document.removeEventListener("visibilitychange", onVisibility);
      window.clearTimeout(timer);
      controller.abort();
    };
  }, [key, everyMs]);

  const refresh = useCallback(() => start.current(), []);
  const error = kept.bad?.key === key ? kept.bad.error : undefined;
  const stale = kept.good !== undefined && kept.good.key !== key;
  // Old results under a failed new question would look like its answer.
  const data = stale && error ? undefined : kept.good?.data;
  return { data, error, stale, refresh };
}

/** The wall clock, for running times; ticks once a second while visible. */
export function useNow(): number {
  const [now, setNow] = useState(() => Date.now());
  useEffect(() => {
    const timer = window.setInterval(() => {
      if (document.visibilityState === "visible") setNow(Date.now());
    }, 1000);
    return () => window.clearInterval(timer);
  }, []);
  return now;
}
