// SPDX-License-Identifier: Apache-2.0
// The first view: the jobs, newest first, a page of them; those that run move.
import { append, fill, h, keyed, say, set } from "../app/dom.js";
import { formatAge, formatBudget } from "../app/format.js";
import { watch } from "../app/poll.js";
import { go, link } from "../app/router.js";
import { may } from "../app/session.js";
import { COMPARED_MOST } from "../drawings/series.js";
import { showNothing, showProblem } from "../parts/notice.js";
import { stateMark } from "../parts/state.js";
import { errorText, isOver, nameOf, runTime, sizeText } from "./job/figures.js";

const PAGE = 50;
const BUSY_SECONDS = 1.5;
const CALM_SECONDS = 5;
const AGE_SECONDS = 10;
const COLUMNS = ["tasks", "budget", "error", "size", "age", "time"];
const STATES = ["running", "queued", "succeeded", "failed", "cancelled"];

function addressOf(filter) {
  return link("jobs", filter);
}

// ---- a row ----

function jobRow(job, chosen) {
  const name = h("a", { href: link("jobs", job.id) });
  const id = h("span", { class: "quiet id" }, job.id);
  const mark = stateMark();
  const bar = h("progress", { max: "1", "aria-label": "Progress" });
  const percent = h("span", { class: "quiet percent" });
  const cells = Object.fromEntries(COLUMNS
    .map((key) => [key, h("td", { class: `number of-${key}` })]));
  const box = h("input", { type: "checkbox", onchange: () => chosen.toggle(job.id, box.checked) });
  const node = h("tr", null,
    h("td", { class: "choose" }, box), h("td", { class: "name" }, name, id),
    h("td", { class: "how" }, mark.node, h("div", { class: "live" }, bar, percent)),
    Object.values(cells));
  const row = {
    node,
    shown: job,
    update(now) {
      row.shown = now;
      say(name, nameOf(now));
      set(box, { "aria-label": `Choose ${nameOf(now)}`, checked: chosen.has(now.id) });
      mark.update(now.state, now.state === "running" && now.stage !== null ? now.stage
                           : now.waiting === "disk" ? "waits for disk" : "");
      const live = now.state === "running";
      set(bar.parentElement, { hidden: !live });
      if (live) {
        bar.value = now.progress;
        say(percent, `${Math.floor(now.progress * 100)} %`);
      }
      say(cells.tasks, now.tasks);
      say(cells.budget, now.survey ? "survey" : formatBudget(now.budget, now.dtype));
      say(cells.error, errorText(now));
      say(cells.size, sizeText(now));
      row.tick();
    },
    tick() {
      say(cells.age, formatAge(row.shown.created_at));
      set(cells.age, { title: row.shown.created_at });
      say(cells.time, runTime(row.shown));
    },
  };
  return row;
}

function jobTable(body) {
  return h("table", { class: "jobs" },
    h("caption", { class: "unseen" }, "Jobs, newest first"),
    h("thead", null, h("tr", null,
      h("td", { class: "choose" }),
      h("th", { scope: "col" }, "Name"), h("th", { scope: "col" }, "State"),
      ["Tasks", "Budget", "Error", "Size", "Submitted", "Time"].map((text, i) =>
        h("th", { scope: "col",
                  class: `number of-${COLUMNS[i]}` }, text)))),
    body);
}

// ---- around the table ----

/** Those chosen to be compared: survive updates, not the view. */
function choice(button) {
  const ids = new Set();
  return {
    has: (id) => ids.has(id),
    toggle(id, on) {
      if (on) ids.add(id);
      else ids.delete(id);
      set(button, { hidden: ids.size < 2 });
      const isTooMany = ids.size > COMPARED_MOST;
      set(button, { disabled: isTooMany });
      say(button, isTooMany ? `At most ${COMPARED_MOST} jobs are compared`
        : `Compare ${ids.size} jobs`);
    },
    all: () => [...ids],
  };
}

function stateLinks(filter, list) {
  const items = [null, ...STATES].map((state) => {
    const count = h("span", { class: "quiet count" });
    const here = (filter.state ?? null) === state;
    append(list, h("li", null, h("a", {
      href: addressOf({ ...filter, state, after: null }), "aria-current": here ? "true" : null,
    }, state ?? "all", " ", count)));
    return [state, count];
  });
  return (jobs) => {
    for (const [state, count] of items)
      say(count, state === null ? Object.values(jobs).reduce((sum, n) => sum + n, 0)
                                : jobs[state] ?? 0);
  };
}

function labelFilter(filter) {
  const input = h("input", { type: "search", id: "label-filter", value: filter.label ?? "",
                             placeholder: "key=value", size: "14", spellcheck: "false" });
  return h("form", {
    class: "row label-filter",
    onsubmit: (event) => {
      event.preventDefault();
      go(addressOf({ ...filter, label: input.value.trim(), after: null }));
    },
  }, h("label", { for: "label-filter" }, "Label"), input,
           h("button", { type: "submit" }, "Filter"));
}

function nothing(filter) {
  if (filter.state || filter.label || filter.after)
    return showNothing("No job fits.", h("a", { href: addressOf({}) }, "Show all jobs"));
  return showNothing("No jobs yet.", may("submit")
    ? ["A job merges fine-tunes of one base into a small package. ",
       h("a", { href: link("new") }, "Make the first one"), "."]
    : "Those submitted with didictl or by hooks appear here.");
}

function pager(filter) {
  const older = h("a", { class: "button", hidden: true }, "Older");
  const newest = h("a", { class: "button", hidden: !filter.after,
                          href: addressOf({ ...filter, after: null }) }, "Newest");
  const newer = h("button", { type: "button", hidden: !filter.after,
                              onclick: () => history.back() }, "Back");
  return {
    node: h("nav", { class: "row pager", "aria-label": "Pages" }, newest, newer, older),
    update(page) {
      set(older, { hidden: !page.has_more,
                   href: page.has_more ? addressOf({ ...filter, after: page.next }) : null });
    },
  };
}

/** Says to those who listen when a job of the page comes to its end. */
function tellEnds(announce) {
  const states = new Map();
  return (jobs) => {
    for (const job of jobs) {
      const before = states.get(job.id);
      if (before !== undefined && before !== job.state && isOver(job.state))
        announce(`${nameOf(job)}: ${job.state}`);
      states.set(job.id, job.state);
    }
  };
}

export function openJobs(context) {
  const filter = Object.fromEntries(["state", "label", "method", "after"]
    .map((name) => [name, context.query.get(name)]).filter(([, value]) => value));
  const compare = h("button", { type: "button", hidden: true,
                                onclick: () => go(link("compare", { job: chosen.all() })) });
  const chosen = choice(compare);
  const states = h("ul", { class: "chips" });
  const countStates = stateLinks(filter, states);
  const notice = h("div", { role: "status" });
  const body = h("tbody");
  const place = h("div", { "aria-busy": "true" }, h("p", { class: "quiet waiting" }, "Loading …"));
  const pages = pager(filter);
  const tell = tellEnds(context.announce);
  const rows = new Set();
  const table = jobTable(body);

  context.title("Jobs");
  append(context.root,
    h("div", { class: "spread" }, h("h1", { tabindex: "-1" }, "Jobs"),
      h("div", { class: "row" }, compare,
        may("submit") ? h("a", { class: "button primary", href: link("new") }, "New merge")
                      : null)),
    h("div", { class: "spread filters" }, h("nav", { "aria-label": "States" }, states),
      labelFilter(filter)),
    notice, place, pages.node);

  function show(page) {
    fill(notice);
    set(place, { "aria-busy": "false" });
    const wanted = page.data.length > 0 ? table : null;
    if (wanted === null) fill(place, nothing(filter));
    else if (!table.isConnected) fill(place, h("div", { class: "scroll" }, table));
    keyed(body, page.data, (job) => job.id, (job) => {
      const row = jobRow(job, chosen);
      rows.add(row);
      return row;
    });
    for (const row of rows) if (!row.node.isConnected) rows.delete(row);
    pages.update(page);
    tell(page.data);
    context.ready();
  }

  const busy = (page) => page?.data.some((job) => !isOver(job.state));
  watch("jobs", {
    query: { ...filter, limit: PAGE }, signal: context.signal, show,
    seconds: (page) => busy(page) ? BUSY_SECONDS : CALM_SECONDS,
    fail(problem) {
      fill(notice, showProblem(problem));
      fill(place);
    },
  });
  watch("status", {
    signal: context.signal, seconds: CALM_SECONDS, fail: () => true,
    show: (status) => countStates(status.jobs),
  });
  const timer = setInterval(() => {
    for (const row of rows) row.tick();
  }, AGE_SECONDS * 1000);
  context.signal.addEventListener("abort", () => clearInterval(timer));
}

