// The frame around every page: header, navigation, language, and the choice of
// page by URL. Pages that the list does not need are loaded when first visited.
import { Component, type ComponentType, lazy, type ReactNode, Suspense, useEffect, useRef } from "react";
import { useSpeech } from "./i18n";
import { type Key, type Language, languages } from "./messages";
import { LivePage } from "./pages/live";
import { NotFoundPage } from "./pages/not-found";
import { SearchPage } from "./pages/search";
import { TagPage } from "./pages/tag";
import { Members } from "./parts/members";
import { Loading } from "./parts/states";
import { Link, match, paths, type Route, useLocation } from "./router";
import { useSession } from "./session";

/** A page that is loaded when first visited. */
function later<P>(load: () => Promise<ComponentType<P>>) {
  return lazy(async () => ({ default: await load() }));
}

const WatchPage = later(async () => {
  // Beside the page, which needs it next and says so itself when it fails to load.
  import("hls.js").catch(() => undefined);
  return (await import("./pages/watch")).WatchPage;
});
const LoginPage = later(async () => (await import("./pages/login")).LoginPage);
const StudioPage = later(async () => (await import("./pages/studio")).StudioPage);
const StudioNewPage = later(async () => (await import("./pages/studio-new")).StudioNewPage);
const StudioBroadcastPage = later(async () => (await import("./pages/studio-broadcast")).StudioBroadcastPage);
const EventsPage = later(async () => (await import("./pages/events")).EventsPage);
const EventPage = later(async () => (await import("./pages/event")).EventPage);
const ConsumersPage = later(async () => (await import("./pages/consumers")).ConsumersPage);
const DeadLettersPage = later(async () => (await import("./pages/dead-letters")).DeadLettersPage);

const nav: { href: string; label: Key }[] = [
  { href: paths.live, label: "nav.live" },
  { href: paths.search, label: "nav.search" },
  { href: paths.studio, label: "nav.studio" },
  { href: paths.events, label: "nav.events" },
];

/** Whether a page stands at `href` or below it. */
function within(path: string, href: string): boolean {
  return path === href || (href !== paths.live && path.startsWith(`${href}/`));
}

export function App() {
  const { t, language, setLanguage } = useSpeech();
  const { path } = useLocation();
  const main = useRef<HTMLElement>(null);
  const shownPath = useRef(path);

  // A page change by link moves the keyboard and the screen reader to the new
  // content, unless the page itself has put the focus somewhere.
  useEffect(() => {
    if (shownPath.current === path) return;
    shownPath.current = path;
    if (!main.current?.contains(document.activeElement)) main.current?.focus({ preventScroll: true });
  }, [path]);

  return (
    <>
      <a className="skip" href="#main">
        {t("nav.skip")}
      </a>
      <header className="top">
        <div className="top-inner">
          <Link className="brand" href={paths.live}>
            <span className="brand-mark" aria-hidden="true" />
            castlog
          </Link>
          <nav aria-label={t("nav.main")}>
            <ul className="nav">
              {nav.map(({ href, label }) => (
                <li key={href}>
                  <Link href={href} aria-current={path === href ? "page" : within(path, href) ? "true" : undefined}>
                    {t(label)}
                  </Link>
                </li>
              ))}
            </ul>
          </nav>
          <div className="top-end">
          <SignOut />
          <select
            className="language"
            aria-label={t("nav.language")}
            value={language}
            onChange={(event) => setLanguage(event.target.value as Language)}
          >
            {Object.entries(languages).map(([code, { name }]) => (
              <option key={code} value={code} lang={code}>
                {name}
              </option>
            ))}
          </select>
          </div>
        </div>
      </header>
      <main id="main" ref={main} tabIndex={-1}>
        <Guard key={path} heading={t("crash.heading")} reload={t("crash.reload")}>
          <Suspense fallback={<Loading />}>
            <Page path={path} />
          </Suspense>
        </Guard>
      </main>
    </>
  );
}

function SignOut() {
  const { t } = useSpeech();
  const { signedIn, leave } = useSession();
  if (!signedIn) return null;
  return (
    <button type="button" className="quiet" onClick={() => void leave()}>
      {t("login.leave")}
    </button>
  );
}

function Page({ path }: { path: string }) {
  const route = match(path);
  switch (route.page) {
    case "live":
      return <LivePage />;
    case "search":
      return <SearchPage />;
    case "tag":
      return <TagPage key={route.tag} tag={route.tag} />;
    case "watch":
      return <WatchPage key={route.id} id={route.id} />;
    case "login":
      return <LoginPage />;
    case "not-found":
      return <NotFoundPage path={path} />;
    default:
      return (
        <Members>
          <MembersPage route={route} />
        </Members>
      );
  }
}

type MembersRoute = Exclude<Route, { page: "live" | "search" | "tag" | "watch" | "login" | "not-found" }>;

function MembersPage({ route }: { route: MembersRoute }) {
  switch (route.page) {
    case "studio":
      return <StudioPage />;
    case "studio-new":
      return <StudioNewPage />;
    case "studio-broadcast":
      return <StudioBroadcastPage key={route.id} id={route.id} />;
    case "events":
      return <EventsPage />;
    case "event":
      return <EventPage key={`${route.stream} ${route.seq}`} stream={route.stream} seq={route.seq} />;
    case "consumers":
      return <ConsumersPage />;
    case "dead-letters":
      return <DeadLettersPage />;
  }
}

interface GuardProps {
  heading: string;
  reload: string;
  children: ReactNode;
}

/** Keeps the frame standing when a page throws, or when its code fails to load. */
class Guard extends Component<GuardProps, { failed: boolean }> {
  override state = { failed: false };

  static getDerivedStateFromError() {
    return { failed: true };
  }

  override render() {
    if (!this.state.failed) return this.props.children;
    return (
      <section className="notice notice-error" role="alert">
        <h1>{this.props.heading}</h1>
        <button type="button" onClick={() => window.location.reload()}>
          {this.props.reload}
        </button>
      </section>
    );
  }
}
