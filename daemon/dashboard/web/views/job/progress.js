// SPDX-License-Identifier: Apache-2.0
// How far a job is: its stages, a bar, what is left; or why it stopped.
import { append, fill, h, say, set } from "../../app/dom.js";
import { formatDuration, formatMoment, formatNumber } from "../../app/format.js";
import { STAGES, STAGE_TOLD, isOver, runSeconds, secondsLeft } from "./figures.js";

function failure(job) {
  if (job.error === null) return null;
  return h("div", { class: "notice bad" }, h("strong", null, job.error.title),
    h("p", null, job.error.detail),
    job.error.subject ? h("p", { class: "quiet" }, "At: ", h("code", null, job.error.subject))
                      : null,
    h("p", null, "Retry goes on from the layers that were finished, once the cause is mended."));
}

function waiting(job) {
  if (job.waiting === "disk")
    return "It waits for the disk: less is free than disk_free_min. Delete old jobs, or make room.";
  return job.state === "queued" ? "It waits for its turn." : "";
}

function stagesHelp() {
  return h("details", { class: "small" }, h("summary", null, "What the stages do"),
    h("ul", { class: "plain-list" }, STAGES.map((stage) =>
      h("li", null, h("strong", null, stage), ` ${STAGE_TOLD[stage]}`))));
}

/** Returns {node, update(job), point(event)}. */
export function jobProgress() {
  const steps = Object.fromEntries(STAGES.map((stage) =>
    [stage, h("li", null, stage)]));
  const bar = h("progress", { max: "1", "aria-label": "Progress of the job" });
  const left = h("span");
  const told = h("p", { class: "quiet" });
  const live = h("div", null, h("ol", { class: "stages" }, Object.values(steps)), bar,
                 h("div", { class: "spread tight" }, told, left), stagesHelp());
  const stopped = h("div");
  const times = h("p", { class: "quiet small" });
  const state = { job: null, point: null, error: null };

  function tick() {
    const { job } = state;
    if (job === null || isOver(job.state)) return;
    const point = state.point?.stage === job.stage ? state.point : null;
    const seconds = runSeconds(job);
    const eta = secondsLeft(job);
    say(left, job.state === "queued" ? "" :
      `${Math.floor(job.progress * 100)} %, ${formatDuration(seconds)} so far` +
      (Number.isFinite(eta) ? `, about ${formatDuration(eta)} left` : ""));
    const items = point?.items_total > 0 ? `, ${point.items_done} of ${point.items_total}` : "";
    const ratio = point?.ratio === undefined ? "" : `; stored ${formatNumber(point.ratio, 4)}` +
      (point.ratio_target === undefined ? "" : ` of ${formatNumber(point.ratio_target, 4)}`);
    say(told, job.state === "queued" ? waiting(job)
      : job.stage === null ? "" : `${STAGE_TOLD[job.stage]}${items}${ratio}`);
  }

  return {
    node: append(h("div", { class: "progress-part" }), live, stopped, times),
    tick,
    point(event) {
      state.point = event;
      tick();
    },
    update(job) {
      state.job = job;
      set(live, { hidden: isOver(job.state) });
      const at = STAGES.indexOf(job.stage);
      STAGES.forEach((stage, i) => set(steps[stage], {
        "aria-current": i === at ? "step" : null,
        "data-done": i < at ? "yes" : null }));
      bar.value = job.progress;
      const error = job.state === "failed" ? JSON.stringify(job.error) : null;
      if (error !== state.error) fill(stopped, error === null ? null : failure(job));
      state.error = error;
      const ran = isOver(job.state) && job.started_at !== null
        ? `, ran ${formatDuration(runSeconds(job))}` : "";
      say(times, `Submitted ${formatMoment(job.created_at)}${ran}` +
        (job.attempt > 1 ? `, attempt ${job.attempt}` : ""));
      tick();
    },
  };
}
