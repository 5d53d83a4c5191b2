// SPDX-License-Identifier: Apache-2.0
// One job: how far it is, what came out of it, and how to take that away.
import { Away, Problem, get, passes, segment } from "../app/api.js";
import { append, fill, h, set } from "../app/dom.js";
import { followJob } from "../app/events.js";
import { formatBudget } from "../app/format.js";
import { breath } from "../app/frames.js";
import { awayMilliseconds, pause, watch } from "../app/poll.js";
import { link } from "../app/router.js";
import { card, facts } from "../parts/facts.js";
import { showProblem } from "../parts/notice.js";
import { artifactsCard, waysCard } from "./job/artifacts.js";
import { jobCurves } from "./job/curves.js";
import { hasFigures, isOver, nameOf } from "./job/figures.js";
import { jobHead } from "./job/head.js";
import { jobLog } from "./job/log.js";
import { jobProgress } from "./job/progress.js";
import { errorsCard, frontierCard, lostCard, ranksCard, resultFigures, similarityCard }
  from "./job/results.js";

const LIVE_SECONDS = 2;
const OVER_SECONDS = 15;

/** What was asked for. */
function askedCard(job) {
  const wanted = job.specification;
  const labels = Object.entries(job.labels).map(([key, value]) => `${key}=${value}`).join(", ");
  const origin = (id) => id === undefined ? null : h("a", { href: link("jobs", id) }, id);
  return card("What was asked for", false,
    facts([
      ["Base", wanted.base ?? ""], ["Method", wanted.method ?? ""],
      ["Budget", formatBudget(wanted.budget, wanted.output?.dtype)],
      ["Stored as", wanted.output?.dtype ?? ""], ["Objective", wanted.objective ?? ""],
      ["From", origin(wanted.from_job)], ["Extends", origin(wanted.extend?.job)],
      ["Priority", job.priority === 0 ? "" : job.priority], ["Labels", labels],
    ]),
    h("h3", null, `Tasks (${wanted.tasks?.length ?? 0})`),
    h("ul", { class: "tasks" }, (wanted.tasks ?? []).map(({ name, model, weight }) =>
      h("li", null, h("strong", null, name), " ", h("span", { class: "quiet" }, model),
        weight === 1 || weight === undefined ? null : ` × ${weight}`))),
    h("details", null, h("summary", null, "The specification"),
      h("pre", { class: "command", tabindex: "0" }, JSON.stringify(wanted, null, 2))));
}

/** What is only there once it succeeded; null where this job has none of it. */
async function ofResult(path, signal) {
  for (let failures = 1; ; failures += 1) {
    try {
      return await get(path, { signal });
    } catch (error) {
      if (error instanceof Problem && !passes(error)) return null;
      if (!(error instanceof Away) && !(error instanceof Problem)) throw error;
      await pause(awayMilliseconds(failures), signal);
      signal.throwIfAborted();
    }
  }
}

/** Fills the places as their data comes, a card at a time. */
async function showResults(job, places, context) {
  const path = `jobs/${segment(job.id)}`;
  const { signal } = context;
  const asked = Object.fromEntries(["frontier", "similarity", "ranks", "artifacts"].map((what) =>
    [what, what === "artifacts" || hasFigures(job, what) ? ofResult(`${path}/${what}`, signal)
                                                         : null]));
  const left = h("div", { class: "stack" });
  const right = h("div", { class: "stack" });
  const below = h("div", { class: "wide" });
  fill(places.figures, resultFigures(job));
  fill(places.ways, job.survey ? null : waysCard(job));
  fill(places.results, job.survey ? [below, left, right] : [left, right, below]);

  async function place(parent, makeCard) {
    await breath();
    if (!signal.aborted && parent.isConnected) append(parent, makeCard());
  }

  const found = await asked.frontier;
  if (found !== null) await place(job.survey ? below : left, () => frontierCard(job, found));
  const similarity = await asked.similarity;
  if (job.result?.error !== undefined) await place(right, () => errorsCard(job, similarity));
  const ranks = await asked.ranks;
  if (ranks !== null && ranks.layers.length > 0) {
    await place(below, () => ranksCard(ranks, signal));
    await place(right, () => lostCard(ranks));
  }
  if (similarity !== null && similarity.tasks.length > 1)
    await place(left, () => similarityCard(similarity, signal));
  const artifacts = await asked.artifacts;
  if (artifacts !== null) await place(places.files, () => artifactsCard(artifacts.data));
  else fill(places.ways);
  context.ready();
}

/** What is known of other sizes before the job is done, or though it failed. */
async function showFrontier(job, place, signal) {
  const found = await ofResult(`jobs/${segment(job.id)}/frontier`, signal);
  if (found !== null && !signal.aborted && place.childElementCount === 0)
    fill(place, h("div", { class: "wide" }, frontierCard(job, found)));
}

export function openJob(context) {
  const { root, signal } = context;
  const id = context.parameters.job;
  const state = { job: null, results: null, hasFrontier: false, isFollowed: false, last: 0,
                  sought: 0 }; // newest events that are shown, and that were asked for
  const head = jobHead(id, context, () => polled.again());
  const progress = jobProgress();
  const curves = jobCurves(signal);
  const log = jobLog();
  const places = { figures: h("div"), results: h("div", { class: "cards" }), asked: h("div"),
                   ways: h("div", { class: "below-figures" }), files: h("div", { class: "wide" }) };
  const notice = h("div");
  const curvesCard = card("While it ran", true, curves.node);

  context.title(id);
  append(root, head.node, notice, progress.node, places.figures, places.ways, places.results,
         h("div", { class: "cards" }, curvesCard, places.files,
           h("div", { class: "stack" }, places.asked, card("Log", false, log.node))));

  function show(job) {
    fill(notice);
    context.title(nameOf(job));
    head.update(job);
    progress.update(job);
    if (state.job === null) {
      fill(places.asked, askedCard(job));
      if (job.state !== "succeeded") context.ready();
    } else if (state.job.state !== job.state) {
      context.announce(`${nameOf(job)}: ${job.state}`);
    }
    state.job = job;
    // a job that is tried again, too, which may be over before it is looked at
    if (!isOver(job.state) || job.last_event > Math.max(state.last, state.sought)) follow();
    early();
    const key = job.state === "succeeded" ? job.finished_at : null;
    if (key === state.results) return;
    state.results = key;
    if (key === null) {
      for (const place of [places.figures, places.results, places.files, places.ways]) fill(place);
    } else {
      showResults(job, places, context).catch((error) => {
        if (!signal.aborted) fill(places.results, showProblem(error));
      });
    }
  }

  /** The frontier comes before the end, the job or its event first. */
  function early() {
    const { job } = state;
    if (job === null || !state.hasFrontier || job.state === "succeeded") return;
    state.hasFrontier = false;
    showFrontier(job, places.results, signal).catch((error) => {
      if (!signal.aborted) throw error;
    });
  }

  const polled = watch(`jobs/${segment(id)}`, {
    signal, show, seconds: (job) => job !== null && isOver(job.state) ? OVER_SECONDS : LIVE_SECONDS,
    fail(problem) {
      if (passes(problem)) fill(notice, showProblem(problem));
      else context.fail(problem);
    },
  });

  function take(events) {
    state.last = events.at(-1).number;
    curves.add(events);
    log.add(events);
    const point = events.findLast(({ kind }) => kind === "point");
    if (point !== undefined) progress.point(point);
    state.hasFrontier ||= events.some(({ kind }) => kind === "frontier");
    early();
    if (events.some(({ kind }) => kind !== "point") && !isOver(state.job?.state ?? "queued"))
      polled.again();
  }

  /** Its events from the last one that is known, until it ends. */
  function follow() {
    if (state.isFollowed) return;
    state.isFollowed = true;
    state.sought = state.job?.last_event ?? 0;
    followJob(id, {
      signal, after: state.last, show: take,
      end() {
        state.isFollowed = false;
        polled.again();
      },
      fail: () => {}, // the job itself tells what is wrong
    });
  }

  follow();
  const timer = setInterval(progress.tick, 1000);
  signal.addEventListener("abort", () => clearInterval(timer));
  set(root, { class: "view job" });
}
