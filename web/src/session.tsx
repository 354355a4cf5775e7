// Who is signed in: asked for once, and again when an answer says that the
// session is over. The session itself is a cookie that scripts cannot read.
import { createContext, type ReactNode, useCallback, useContext, useEffect, useMemo, useState } from "react";
import { ApiError, signedIn, signOut } from "./api";
import { navigate, paths } from "./router";

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

  useEffect(() => {
    const asked = new AbortController();
    signedIn({ signal: asked.signal }).then(setState, (cause: unknown) => {
      // Without an answer nobody is known; the pages say why themselves.
      if (cause instanceof ApiError && !asked.signal.aborted) setState(false);
    });
    return () => asked.abort();
  }, []);

  const entered = useCallback(() => setState(true), []);
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
