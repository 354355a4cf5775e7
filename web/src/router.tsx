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
  | { page: "live" }
  | { page: "search" }
  | { page: "tag"; tag: string }
  | { page: "watch"; id: string }
  | { page: "studio" }
  | { page: "not-found" };

/** Which page a path names. */
export function match(path: string): Route {
  const [first, second, ...more] = path.split("/").filter((part) => part !== "");
  if (more.length > 0) return { page: "not-found" };
  if (first === undefined) return { page: "live" };
  if (second === undefined) {
    if (first === "search" || first === "studio") return { page: first };
    return { page: "not-found" };
  }
  const value = decode(second);
  if (value === undefined) return { page: "not-found" };
  if (first === "tags") return { page: "tag", tag: value };
  if (first === "watch") return { page: "watch", id: value };
  return { page: "not-found" };
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
  tag: (tag: string) => `/tags/${encodeURIComponent(tag)}`,
  watch: (id: string) => `/watch/${encodeURIComponent(id)}`,
};
