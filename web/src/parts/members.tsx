// What only those see who have signed in: everyone else is sent to the login,
// and back to the page that they wanted.
import { type ReactNode, useEffect } from "react";
import type { ApiError } from "../api";
import { navigate, paths, useLocation } from "../router";
import { useSession } from "../session";
import { Loading } from "./states";

export function Members({ children }: { children: ReactNode }) {
  const { signedIn } = useSession();
  const { path, search } = useLocation();
  const here = path + search;
  useEffect(() => {
    if (signedIn === false) navigate(paths.login(here), { replace: true });
  }, [signedIn, here]);
  return signedIn ? children : <Loading />;
}

/** Sends to the login when an answer says that the session is over. */
export function useRefusal(error: ApiError | undefined): void {
  const { refused } = useSession();
  const over = error?.status === 401;
  useEffect(() => {
    if (over) refused();
  }, [over, refused]);
}
