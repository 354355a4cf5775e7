// The chosen language: what the person picked here, else the first language of
// the browser that the UI speaks, else English.
import { createContext, type ReactNode, useCallback, useContext, useEffect, useMemo, useState } from "react";
import { type Key, type Language, languages } from "./messages";
import { keep, kept } from "./storage";

const storageKey = "castlog.language";

export type Translate = (key: Key, values?: Record<string, string | number>) => string;

interface Speech {
  language: Language;
  setLanguage: (language: Language) => void;
  t: Translate;
}

const SpeechContext = createContext<Speech | undefined>(undefined);

function isLanguage(value: string | null | undefined): value is Language {
  return value != null && Object.hasOwn(languages, value);
}

function initial(): Language {
  const picked = kept(storageKey);
  if (isLanguage(picked)) return picked;
  for (const tag of navigator.languages) {
    const base = tag.toLowerCase().split("-")[0];
    if (isLanguage(base)) return base;
  }
  return "en";
}

export function Speaking({ children }: { children: ReactNode }) {
  const [language, choose] = useState(initial);

  useEffect(() => {
    document.documentElement.lang = language;
  }, [language]);

  const setLanguage = useCallback((next: Language) => {
    choose(next);
    keep(storageKey, next);
  }, []);

  const speech = useMemo<Speech>(() => {
    const { messages } = languages[language];
    const t: Translate = (key, values = {}) =>
      messages[key].replace(/\{(\w+)\}/g, (whole, name: string) => String(values[name] ?? whole));
    return { language, setLanguage, t };
  }, [language, setLanguage]);

  return <SpeechContext value={speech}>{children}</SpeechContext>;
}

export function useSpeech(): Speech {
  const speech = useContext(SpeechContext);
  if (!speech) throw new Error("useSpeech outside of Speaking");
  return speech;
}
