// Routes over the History API. The URL is the only store of what a page shows;
// `useLocation` re-renders on every change of it.
import { type AnchorHTMLAttributes, type MouseEvent, useSyncExternalStore } from "react";

const changed = "castlog:navigate";

function subscribe(onChange: () => void): () => void {
  window.addEventListener("popstate", onChange);
  window.addEventListener(changed, onChange);
  return () => {
    window.removeEventListener("popstate", onChange);
    window.removeEventListener(changed, onChange);
  };
}

export interface Location {
  path: string;
  search: string;
}

export function useLocation(): Location {
  const path = useSyncExternalStore(subscribe, () => window.location.pathname);
  const search = useSyncExternalStore(subscribe, () => window.location.search);
  return { path, search };
}

export function navigate(to: string, how: { replace?: boolean } = {}): void {
  const url = new URL(to, window.location.href);
  if (url.href === window.location.href) return;
  const samePage = url.pathname === window.location.pathname;
  if (how.replace) window.history.replaceState(null, "", url);
  else window.history.pushState(null, "", url);
  window.dispatchEvent(new Event(changed));
  if (!samePage) window.scrollTo(0, 0);
}

export function Link({ href, onClick, ...rest }: AnchorHTMLAttributes<HTMLAnchorElement> & { href: string }) {
  const follow = (event: MouseEvent<HTMLAnchorElement>) => {
    onClick?.(event);
    // Modified clicks keep their browser meaning (new tab, download, …).
    if (event.defaultPrevented || event.button !== 0) return;
    if (event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    navigate(href);
  };
  return <a href={href} onClick={follow} {...rest} />;
}

export type Route =
  | { page: "live" | "search" | "login" | "studio" | "studio-new" | "events" | "consumers" | "dead-letters" | "not-found" }
  | { page: "tag"; tag: string }
  | { page: "watch" | "studio-broadcast"; id: string }
  | { page: "event"; stream: string; seq: number };

/** Which page a path names. */
export function match(path: string): Route {
  const parts = path.split("/").filter((part) => part !== "").map(decode);
  const [first, second, third, ...more] = parts;
  const nothing: Route = { page: "not-found" };
  if (more.length > 0 || parts.includes(undefined)) return nothing;
  if (third !== undefined) {
    const seq = Number(third);
    const isEntry = first === "events" && second !== undefined && Number.isSafeInteger(seq) && seq > 0;
    return isEntry ? { page: "event", stream: second, seq } : nothing;
  }
  if (second !== undefined) {
    if (first === "tags") return { page: "tag", tag: second };
    if (first === "watch") return { page: "watch", id: second };
    if (first === "studio") return second === "new" ? { page: "studio-new" } : { page: "studio-broadcast", id: second };
    if (first === "events" && (second === "consumers" || second === "dead-letters")) return { page: second };
    return nothing;
  }
  if (first === undefined) return { page: "live" };
  if (first === "search" || first === "studio" || first === "events" || first === "login") return { page: first };
  return nothing;
}

function decode(part: string): string | undefined {
  try {
    return decodeURIComponent(part);
  } catch {
    return undefined;
  }
}

export const paths = {
  live: "/",
  search: "/search",
  studio: "/studio",
  studioNew: "/studio/new",
  events: "/events",
  consumers: "/events/consumers",
  deadLetters: "/events/dead-letters",
  tag: (tag: string) => `/tags/${encodeURIComponent(tag)}`,
  watch: (id: string) => `/watch/${encodeURIComponent(id)}`,
  recording: (id: string, session: string) => `${paths.watch(id)}?recording=${encodeURIComponent(session)}`,
  studioOf: (id: string) => `/studio/${encodeURIComponent(id)}`,
  event: (stream: string, seq: number) => `/events/${encodeURIComponent(stream)}/${seq}`,
  login: (next: string) => `/login?next=${encodeURIComponent(next)}`,
};

/** Where to go after signing in: a page of ours, whatever the URL says. */
export function afterLogin(search: string): string {
  const next = new URLSearchParams(search).get("next") ?? "";
  const url = next.startsWith("/") ? URL.parse(next, window.location.origin) : null;
  return url?.origin === window.location.origin ? url.pathname + url.search : paths.studio;
}
