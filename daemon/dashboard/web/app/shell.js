// SPDX-License-Identifier: Apache-2.0
// What stands around every view: navigation, who is looking, whether the server answers. It opens
// the view that the address names, and closes it when another is named.
import { announce, announcer } from "./announce.js";
import { Problem, connection, get, retryNow } from "./api.js";
import { append, fill, h, set } from "./dom.js";
import { formatMoment } from "./format.js";
import { awayMilliseconds, pause } from "./poll.js";
import { link, match, parse } from "./router.js";
import { forgetToken, may, onAdopted, onRefused, setIdentity, token, whoAmI } from "./session.js";
import { printable } from "./text.js";
import { showProblem } from "../parts/notice.js";
import { askAgain, openSignIn } from "../views/sign_in.js";
import { HOME, views } from "../views/table.js";

const shell = {
  navigation: h("ul"),
  who: h("div", { class: "who" }),
  banner: h("div", { class: "banner", role: "status", hidden: true }),
  main: h("main", { id: "main", tabindex: "-1" }),
  view: null, // AbortController of what is open
  visit: null, // number of what is open, in the browser's history; null: no view
  places: new Map(), // number of a visit -> how far it was scrolled
  isBack: false,
};

// ---- around the view ----

function drawNavigation(current) {
  fill(shell.navigation, views.filter((view) => view.label && may(view.scope)).map((view) =>
    h("li", null, h("a", { href: link(...view.pattern.split("/")),
                           "aria-current": view.section === current ? "page" : null },
                    view.label))));
}

function signOut() {
  forgetToken();
  askForToken(null);
}

function drawWho() {
  const identity = whoAmI();
  if (identity === null || identity.authenticated_by !== "token") {
    fill(shell.who, identity === null ? null
                                      : h("span", { class: "quiet" }, "no token needed"));
    return;
  }
  fill(shell.who, h("span", { class: "quiet", title: `Scope: ${identity.scope}` },
                    identity.name ?? "token"),
       h("button", { type: "button", class: "plain", onclick: signOut }, "Sign out"));
}

function drawBanner() {
  const since = connection.awaySince;
  if (since === null) {
    if (!shell.banner.hidden) announce("The server answers again.");
    set(shell.banner, { hidden: true });
    return;
  }
  if (!shell.banner.hidden) return;
  const seen = connection.answeredAt;
  fill(shell.banner, h("strong", null, "The server does not answer."),
       seen === null ? " It may be starting, or stopped. "
                     : ` What you see is of ${formatMoment(seen)}. `,
       "This page tries again by itself. ",
       h("button", { type: "button", onclick: retryNow }, "Try now"));
  set(shell.banner, { hidden: false });
}

// ---- views ----

function closeView() {
  if (shell.visit !== null) shell.places.set(shell.visit, window.scrollY);
  shell.visit = null;
  shell.view?.abort();
  shell.view = new AbortController();
  fill(shell.main);
  return shell.view.signal;
}

function contextOf(found, query, root, signal) {
  const place = shell.isBack ? shell.places.get(shell.visit) : undefined;
  return {
    root,
    parameters: found.parameters,
    query,
    signal, // aborted when the view is left
    announce,
    /** What the tab is called. */
    title(text) {
      document.title = `${printable(text)} · didid`;
    },
    /** The first data is there: a reader who came back is put where they were. */
    ready() {
      if (place !== undefined && !signal.aborted) window.scrollTo(0, place);
    },
    /** The server refused what the view lives of. */
    fail(problem) {
      fill(root, h("h1", { tabindex: "-1" }, problem.title),
           showProblem(problem), h("p", null, h("a", { href: HOME }, "All jobs")));
    },
  };
}

function openView(isFirst) {
  const { path, query } = parse(location.hash);
  if (path.length === 0) {
    location.replace(HOME);
    return;
  }
  const signal = closeView();
  const found = match(views, path);
  const root = h("div", { class: "view" });
  if (history.state === null) history.replaceState({ visit: Date.now() }, "");
  shell.visit = history.state.visit;
  append(shell.main, root);
  drawNavigation(found?.view.section ?? null);
  if (found === null || !may(found.view.scope)) {
    const text = found === null ? "There is no such page" : "Your token does not allow this";
    document.title = `${text} · didid`;
    fill(root, h("h1", { tabindex: "-1" }, text),
         found === null ? null : h("p", null, `It needs the scope ${found.view.scope}.`),
         h("p", null, h("a", { href: HOME }, "All jobs")));
  } else {
    found.view.open(contextOf(found, query, root, signal));
  }
  if (!isFirst) {
    if (!shell.isBack) window.scrollTo(0, 0);
    root.querySelector("h1")?.focus({ preventScroll: true });
  }
  shell.isBack = false;
}

// ---- who is looking ----

function askForToken(problem) {
  const signal = closeView();
  setIdentity(null);
  fill(shell.navigation);
  fill(shell.who);
  document.title = "Sign in · didid";
  openSignIn({ root: shell.main, signal, problem, done: enter });
}

function drawIdentity(identity) {
  setIdentity(identity);
  drawWho();
  drawNavigation(match(views, parse(location.hash).path)?.view.section ?? null);
}

/** The token ended while somebody works: another one, or out. */
async function signInAgain(problem) {
  const identity = await askAgain(problem);
  if (identity === null) {
    signOut();
    return false;
  }
  drawIdentity(identity);
  return true;
}

/** Learns who is looking, and opens the view; waits for the server where it is away. */
async function enter() {
  const signal = closeView();
  append(shell.main, h("p", { class: "quiet waiting" }, "Asking the server …"));
  for (let failures = 1; !signal.aborted; failures += 1) {
    try {
      setIdentity(await get("whoami", { signal, once: true }));
      drawWho();
      openView(true);
      return;
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof Problem && error.status === 401) {
        askForToken(token() === null ? null : error);
        return;
      }
      if (error instanceof Problem)
        fill(shell.main, h("h1", null, error.title), showProblem(error));
      await pause(awayMilliseconds(failures), signal);
    }
  }
}

function skipLink() {
  return h("a", {
    class: "skip", href: "#main",
    onclick: (event) => {
      event.preventDefault(); // the part behind # names views
      shell.main.focus();
    },
  }, "Skip to the content");
}

export function start(body) {
  history.scrollRestoration = "manual";
  append(body, skipLink(),
         h("header", { class: "top" },
           h("a", { class: "brand", href: HOME }, "didid"),
           h("nav", { "aria-label": "Main" }, shell.navigation), shell.who),
         shell.banner, shell.main, announcer());
  connection.listeners.add(drawBanner);
  onRefused(signInAgain);
  onAdopted(async () => drawIdentity(await get("whoami")));
  window.addEventListener("popstate", ({ state }) => { shell.isBack = state !== null; });
  window.addEventListener("hashchange", () => { if (whoAmI() !== null) openView(false); });
  if (location.hash === "") history.replaceState(null, "", HOME);
  enter();
}
