import { useEffect, useRef, useState } from "react";
import { useSpeech } from "../i18n";

interface Props {
  label: string;
  question: string;
  go: string;
  onGo: () => Promise<unknown>;
}

/** A button whose deed cannot be undone: it asks first, in place. */
export function Confirm({ label, question, go, onGo }: Props) {
  const { t } = useSpeech();
  const [asking, setAsking] = useState(false);
  const cancel = useRef<HTMLButtonElement>(null);
  useEffect(() => {
    if (asking) cancel.current?.focus();
  }, [asking]);

  if (!asking) {
    return (
      <button type="button" className="quiet" onClick={() => setAsking(true)}>
        {label}
      </button>
    );
  }
  return (
    <div className="confirm" role="group" aria-label={label}>
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
