// Signing in: the token goes to the server once, which answers with a cookie
// that no script can read. It is kept nowhere in the browser.
import { type FormEvent, useEffect, useRef, useState } from "react";
import { signIn } from "../api";
import { useSpeech } from "../i18n";
import { useAction } from "../parts/action";
import { usePageTitle } from "../parts/states";
import { afterLogin, navigate, useLocation } from "../router";
import { useSession } from "../session";
import "../styles/forms.css";

export function LoginPage() {
  const { t } = useSpeech();
  usePageTitle(t("login.heading"));
  const { signedIn, entered } = useSession();
  const { search } = useLocation();
  const { busy, problem, run } = useAction();
  const [text, setText] = useState("");
  const input = useRef<HTMLInputElement>(null);

  useEffect(() => {
    if (signedIn) navigate(afterLogin(search), { replace: true });
  }, [signedIn, search]);

  const submit = async (event: FormEvent) => {
    event.preventDefault();
    const token = text.trim();
    if (token === "") return input.current?.focus();
    const done = await run(() => signIn(token));
    setText("");
    if (done) entered();
    else input.current?.focus();
  };

  return (
    <div className="page page-narrow">
      <h1>{t("login.heading")}</h1>
      <form className="card" method="post" onSubmit={(event) => void submit(event)} noValidate>
        <div className="field">
          <label htmlFor="token">{t("login.token")}</label>
          <input
            id="token"
            ref={input}
            type="password"
            autoComplete="current-password"
            spellCheck={false}
            required
            value={text}
            aria-describedby="token-hint"
            aria-invalid={problem ? true : undefined}
            onChange={(event) => setText(event.target.value)}
          />
          <p className="hint" id="token-hint">
            {t("login.hint")}
          </p>
        </div>
        {problem && (
          <p className="form-error" role="alert">
            {problem}
          </p>
        )}
        <button type="submit" className="primary" disabled={busy}>
          {busy ? t("login.busy") : t("login.do")}
        </button>
      </form>
    </div>
  );
}
