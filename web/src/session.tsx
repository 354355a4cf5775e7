// Who is signed in: asked for at first, and again when the session ends by itself.
// The session itself is a cookie that scripts cannot read.
import { createContext, type ReactNode, useCallback, useContext, useEffect, useMemo, useState } from "react";
import { ApiError, session as ask, signOut } from "./api";
import { serverNow } from "./clock";
import { navigate, paths } from "./router";

// The server's clock is known to a second.
const marginMs = 1000;

/** Undefined until the server has said. */
type State = boolean | undefined;

interface Session {
  signedIn: State;
  entered: () => void;
  leave: () => Promise<void>;
  /** A request was refused: the session may be over. */
  refused: () => void;
}

const SessionContext = createContext<Session | undefined>(undefined);

export function Sessions({ children }: { children: ReactNode }) {
  const [state, setState] = useState<State>();
  const [asks, setAsks] = useState(0);

  useEffect(() => {
    const asked = new AbortController();
    let end: number | undefined;
    ask({ signal: asked.signal }).then(
      ({ signed_in, expires_at }) => {
        setState(signed_in);
        // What everybody may read is answered then too, with less in it.
        if (expires_at) end = window.setTimeout(() => setAsks(asks + 1), Date.parse(expires_at) - serverNow() + marginMs);
      },
      (cause: unknown) => {
        // Without an answer nobody is known; the pages say why themselves.
        if (cause instanceof ApiError && !asked.signal.aborted) setState(false);
      },
    );
    return () => {
      asked.abort();
      window.clearTimeout(end);
    };
  }, [asks]);

  const entered = useCallback(() => {
    setState(true);
    // For when it ends.
    setAsks((before) => before + 1);
  }, []);
  const refused = useCallback(() => setState(false), []);
  const leave = useCallback(async () => {
    await signOut();
    setState(false);
    navigate(paths.live);
  }, []);
  const session = useMemo(() => ({ signedIn: state, entered, leave, refused }), [state, entered, leave, refused]);
  return <SessionContext value={session}>{children}</SessionContext>;
}

export function useSession(): Session {
  const session = useContext(SessionContext);
  if (!session) throw new Error("useSession outside of Sessions");
  return session;
}
