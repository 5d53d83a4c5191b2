// SPDX-License-Identifier: Apache-2.0
// One bake-off: size against what is kept, and the table of it.
import { post, remove, segment } from "../app/api.js";
import { append, fill, h, keyed, say, set } from "../app/dom.js";
import { formatBytes, formatDuration, formatNumber } from "../app/format.js";
import { watch } from "../app/poll.js";
import { go, link } from "../app/router.js";
import { scatter } from "../drawings/scatter.js";
import { confirmed } from "../parts/confirm.js";
import { facts } from "../parts/facts.js";
import { showProblem } from "../parts/notice.js";
import { actionButton, listTable, momentOf } from "../parts/rows.js";
import { stateMark } from "../parts/state.js";
import { isOver } from "./bakeoffs.js";

const SECONDS = 1;
const MOST = 2.3; // models of 16 bits: larger ones would squeeze the others

const shown = ({ role }) => role !== "survey";
const sizeOf = ({ ratio }) => ratio ?? Infinity;
const number = (value, digits) => value === null ? "-" : formatNumber(value, digits);

function memberRow(first, scored) {
  const mark = stateMark();
  const name = h("span");
  const why = h("p", { class: "fault small" });
  const cells = Array.from({ length: 5 }, () => h("td", { class: "number" }));
  const job = h("td");
  const node = h("tr", null, h("th", { scope: "row" }, name, why), h("td", null, mark.node), cells,
                 job);
  return { node, update(row) {
    say(name, row.label);
    say(why, row.error?.detail ?? "");
    mark.update(row.state === "refused" ? "disabled" : row.state);
    if (row.state === "refused") mark.node.lastChild.textContent = "refused";
    const kept = scored ? [number(row.kept, 4), row.worst === null ? "-"
      : `${number(row.worst.kept, 4)}, ${row.worst.task}`]
      : [number(row.cosine, 4), number(row.length, 4)];
    const texts = [row.ratio === null ? "-" : `${row.ratio.toFixed(2)}×`, ...kept,
                   number(row.relative_error, 4),
                   row.seconds === null ? "-" : formatDuration(row.seconds)];
    texts.forEach((text, i) => say(cells[i], text));
    set(cells[0], { title: row.bytes === null ? null : formatBytes(row.bytes) });
    fill(job, row.job_exists ? h("a", { href: link("jobs", row.job) }, "Job") : null);
  } };
}

function pointOf(row, scored) {
  const y = scored ? row.kept : row.relative_error;
  const worst = row.worst === null ? "" : `, worst task ${row.worst.task} ` +
    formatNumber(row.worst.kept, 4);
  return { name: row.label, x: row.ratio, y, isLine: row.role === "didi",
           tell: `${row.label}: ${row.ratio.toFixed(2)}×, ` +
             (scored ? `kept ${formatNumber(y, 4)}${worst}` : `error ${formatNumber(y, 4)}`) };
}

function pointOfOrNull(row, scored) {
  const y = scored ? row.kept : row.relative_error;
  return row.ratio === null || y === null || row.ratio > MOST ? null : pointOf(row, scored);
}

/** What is ahead of didi, in words: {head, list}. */
function verdictOf({ verdict, scored, state }) {
  const note = h("p", { class: "quiet" }, verdict.note);
  if (!scored || state !== "succeeded") return { head: note, list: null };
  const none = verdict.ahead.length === 0;
  return {
    head: [h("p", null, h("strong", null, none ? "No method is ahead of didi at its bytes."
      : "Some are ahead of didi at their bytes: see below.")), note],
    list: none ? null : [h("h3", null, "Ahead of didi at their bytes"), h("ul", null,
      verdict.ahead.map(({ label, what, by }) => h("li", null,
        `${label}, ${what === "worst" ? "worst task" : "mean"} by ${formatNumber(by, 3)}`)))],
  };
}

function progressOf({ rows, tasks }) {
  const parts = rows.map((row) => !shown(row) || row.state !== "succeeded"
    ? row.progress / (row.state === "running" ? 2 : 1)
    : (1 + Object.keys(row.scores).length / tasks.length) / 2);
  return parts.reduce((sum, part) => sum + part, 0) / Math.max(1, parts.length);
}

function actionsOf(context, id, again) {
  const path = `bakeoffs/${segment(id)}`;
  const cancel = actionButton("Cancel", async () => {
    await post(`${path}/cancel`, undefined, { signal: context.signal });
    again();
  }, { done: "Cancelled" });
  const away = actionButton("Remove", async () => {
    if (!await confirmed("Remove this bake-off?", "The jobs that are left of it go too.", "Remove"))
      return false;
    await remove(path, { signal: context.signal });
    go(link("bakeoffs"));
    return true;
  }, { done: "Removed" });
  return { node: h("div", null, h("div", { class: "row" }, cancel.button, away.button),
                   cancel.notice, away.notice),
           update(bakeoff) {
             set(cancel.button, { hidden: isOver(bakeoff) || bakeoff.cancel_requested });
             set(away.button, { hidden: !isOver(bakeoff) });
           } };
}

/** The page of a bake-off as it is first seen; `again()` asks anew. {nodes, update(bakeoff)}. */
function page(context, first, again) {
  const { scored } = first;
  const mark = stateMark();
  const bar = h("progress", { max: "1", "aria-label": "Progress of the bake-off" });
  const verdict = h("div");
  const ahead = h("div");
  const failed = h("div");
  const actions = actionsOf(context, first.id, again);
  const drawing = scatter({
    label: scored ? "Size against what is kept" : "Size against relative error",
    xName: "size, in models of 16 bits", yName: scored ? "kept" : "relative error",
    pointsName: "methods", lineName: "didi" });
  const kept = (scored ? ["Kept", "Worst task"] : ["Cosine", "Length"])
    .map((name) => [name, "number"]);
  const { node: table, body } = listTable("Methods by size", ["Method", "State",
    ["Size", "number"], ...kept, ["Error", "number"], ["Took", "number"], "Job"]);
  return {
    nodes: [
      h("section", { class: "card" }, h("div", { class: "row" }, mark.node), bar, failed,
        facts([["Base", first.base], ["Tasks", first.tasks.join(", ")],
               ["Split", first.request.split], ["Asked for", momentOf(first.created_at)]]),
        actions.node),
      h("section", { class: "card" }, verdict, drawing.node, ahead),
      h("section", { class: "card" }, h("h2", null, "Methods"), table)],
    update(bakeoff) {
      const rows = bakeoff.rows.map((row, place) => ({ ...row, place })).filter(shown)
        .toSorted((a, b) => sizeOf(a) - sizeOf(b) || a.place - b.place);
      mark.update(bakeoff.state, `${bakeoff.members_ended} of ${bakeoff.members} merges`);
      bar.value = progressOf(bakeoff);
      set(bar, { hidden: isOver(bakeoff) });
      fill(failed, bakeoff.error === null ? null : h("p", { class: "fault" },
                                                     bakeoff.error.detail));
      const { head, list } = verdictOf(bakeoff);
      fill(verdict, head);
      fill(ahead, list);
      drawing.update(rows.map((row) => pointOfOrNull(row, scored)).filter((one) => one !== null));
      keyed(body, rows, ({ place: at }) => at, (row) => memberRow(row, scored));
      actions.update(bakeoff);
    },
  };
}

export function openBakeoff(context) {
  const heading = h("h1", { tabindex: "-1" }, "Bake-off");
  const place = h("div", { class: "stack" });
  const notice = h("div");
  const state = { page: null };
  context.title("Bake-off");
  append(context.root, h("p", null, h("a", { href: link("bakeoffs") }, "All bake-offs")), heading,
         notice, place);
  const watching = watch(`bakeoffs/${segment(context.parameters.bakeoff)}`, {
    signal: context.signal,
    seconds: (bakeoff) => bakeoff !== null && isOver(bakeoff) ? null : SECONDS,
    show(bakeoff) {
      fill(notice);
      say(heading, bakeoff.name || "Bake-off");
      context.title(bakeoff.name || "Bake-off");
      if (state.page === null) {
        state.page = page(context, bakeoff, () => watching.again());
        append(place, state.page.nodes);
        state.page.update(bakeoff);
        context.ready();
        return;
      }
      state.page.update(bakeoff);
      if (isOver(bakeoff)) context.announce("The bake-off has ended");
    },
    fail(problem) {
      if (state.page === null) context.fail(problem);
      else fill(notice, showProblem(problem));
    },
  });
}
