// The search field. It owns its text while someone types, so that no answer,
// refresh or navigation rewrites a word (least of all one under composition by
// an input method); it reports text through `onType` after a pause.
import { type FormEvent, type KeyboardEvent, useEffect, useRef, useState } from "react";
import { useSpeech } from "../i18n";
import { pauseBeforeSearch } from "../search-state";

interface Props {
  value: string;
  /** As-you-type search; without it the box only submits. */
  onType?: (text: string) => void;
  onSubmit: (text: string) => void;
  autoFocus?: boolean;
}

export function SearchBox({ value, onType, onSubmit, autoFocus = false }: Props) {
  const { t } = useSpeech();
  const [text, setText] = useState(value);
  const input = useRef<HTMLInputElement>(null);
  const composing = useRef(false);
  const reported = useRef(value);
  const reportedAt = useRef(-Infinity);
  const timer = useRef<number>(undefined);

  // The URL changed by another hand (back button, a link): show its text.
  useEffect(() => {
    if (value === reported.current || composing.current) return;
    window.clearTimeout(timer.current);
    reported.current = value;
    setText(value);
  }, [value]);

  useEffect(() => () => window.clearTimeout(timer.current), []);

  useEffect(() => {
    if (autoFocus) input.current?.focus({ preventScroll: true });
  }, [autoFocus]);

  const report = (next: string, send: (text: string) => void) => {
    window.clearTimeout(timer.current);
    reported.current = next;
    reportedAt.current = performance.now();
    send(next);
  };

  const typed = (next: string) => {
    setText(next);
    window.clearTimeout(timer.current);
    if (!onType) return;
    const pause = pauseBeforeSearch(next, composing.current, performance.now() - reportedAt.current);
    if (pause === 0) report(next, onType);
    else if (pause !== undefined) timer.current = window.setTimeout(() => report(next, onType), pause);
  };

  const submit = (event: FormEvent) => {
    event.preventDefault();
    report(text, onSubmit);
  };

  // Enter that ends a composition belongs to the input method.
  const keyDown = (event: KeyboardEvent) => {
    if (event.key === "Enter" && (event.nativeEvent.isComposing || composing.current)) event.preventDefault();
  };

  return (
    <form className="search-box" role="search" action="/search" onSubmit={submit}>
      <label className="visually-hidden" htmlFor="q">
        {t("search.label")}
      </label>
      <input
        id="q"
        ref={input}
        name="q"
        type="search"
        autoComplete="off"
        enterKeyHint="search"
        maxLength={200}
        placeholder={t("search.placeholder")}
        value={text}
        onChange={(event) => typed(event.target.value)}
        onKeyDown={keyDown}
        onCompositionStart={() => {
          composing.current = true;
        }}
        onCompositionEnd={(event) => {
          composing.current = false;
          typed(event.currentTarget.value);
        }}
      />
      <button type="submit">{t("search.go")}</button>
    </form>
  );
}
