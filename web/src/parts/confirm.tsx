import { useEffect, useRef, useState } from "react";
import { useSpeech } from "../i18n";

interface Props {
  label: string;
  question: string;
  go: string;
  busy?: boolean;
  /** It takes something away for good. */
  grave?: boolean;
  onGo: () => Promise<unknown>;
}

/** A button whose deed cannot be undone: it asks first, in place. */
export function Confirm({ label, question, go, busy = false, grave = false, onGo }: Props) {
  const { t } = useSpeech();
  const [asking, setAsking] = useState(false);
  const cancel = useRef<HTMLButtonElement>(null);
  const ask = useRef<HTMLButtonElement>(null);
  const asked = useRef(false);
  // The keyboard goes to the harmless answer, and back to the question.
  useEffect(() => {
    if (asking) {
      asked.current = true;
      cancel.current?.focus();
    } else if (asked.current && !busy) {
      // A button that waits takes no focus, and by then it may be elsewhere.
      asked.current = false;
      if (document.activeElement === document.body) ask.current?.focus();
    }
  }, [asking, busy]);

  if (!asking) {
    return (
      <button type="button" ref={ask} className={grave ? "danger" : undefined} disabled={busy} onClick={() => setAsking(true)}>
        {label}
      </button>
    );
  }
  return (
    <div
      className="confirm"
      role="group"
      aria-label={label}
      onKeyDown={(event) => {
        if (event.key === "Escape") setAsking(false);
      }}
    >
      <p>{question}</p>
      <div className="actions">
        <button type="button" ref={cancel} onClick={() => setAsking(false)}>
          {t("studio.cancel")}
        </button>
        <button
          type="button"
          className="danger"
          onClick={() => {
            setAsking(false);
            void onGo();
          }}
        >
          {go}
        </button>
      </div>
    </div>
  );
}
