// One command to the server at a time, with its outcome in words.
import { useState } from "react";
import { ApiError } from "../api";
import { useSpeech } from "../i18n";
import { explain } from "./states";

export interface Action {
  busy: boolean;
  /** Why the last attempt failed. */
  problem: string | undefined;
  setProblem: (problem: string | undefined) => void;
  /** Resolves to whether `work` succeeded; a second call while busy does nothing. */
  run: (work: () => Promise<void>) => Promise<boolean>;
}

export function useAction(): Action {
  const { t } = useSpeech();
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<string>();

  const run = async (work: () => Promise<void>): Promise<boolean> => {
    if (busy) return false;
    setBusy(true);
    setProblem(undefined);
    try {
      await work();
      return true;
    } catch (cause) {
      const error = cause instanceof ApiError ? cause : new ApiError(0, String(cause));
      setProblem(error.code ? `${explain(error, t)} (${error.code})` : explain(error, t));
      return false;
    } finally {
      setBusy(false);
    }
  };
  return { busy, problem, setProblem, run };
}
