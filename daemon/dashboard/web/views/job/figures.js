// SPDX-License-Identifier: Apache-2.0
// What jobs and rows of jobs say of themselves, in words and numbers.
import { formatBytes, formatDuration, formatNumber } from "../../app/format.js";

/** What a merge does at each stage, in order. */
export const STAGE_TOLD = {
  digest: "reads the models and compares them", decompose: "takes the task vectors apart",
  allocate: "decides what each layer gets", pursue: "finds what tasks share",
  refine: "fits what is stored", publish: "writes the package",
};
export const STAGES = Object.keys(STAGE_TOLD);

/** "pursue: finds what tasks share"; a stage of another method by its name alone. */
export function stageWords(stage) {
  return stage in STAGE_TOLD ? `${stage}: ${STAGE_TOLD[stage]}` : stage;
}

export function isOver(state) {
  return state !== "queued" && state !== "running";
}

/** Its name, or its id where it has none. */
export function nameOf(job) {
  return job.name === "" ? job.id : job.name;
}

/** Whether it succeeded and has figures of this name: "frontier", "similarity", "ranks". A survey
 *  tells of no result. */
export function hasFigures(job, name) {
  return job.state === "succeeded" &&
    (job.survey ? name !== "ranks" : job.result?.figures.includes(name) === true);
}

/** Seconds from its start to its end, or to now; NaN before the start. */
export function runSeconds(job, now = Date.now()) {
  if (job.started_at === null) return NaN;
  const end = job.finished_at === null ? now : Date.parse(job.finished_at);
  return Math.max(0, (end - Date.parse(job.started_at)) / 1000);
}

export function runTime(job) {
  return job.state === "queued" ? "" : formatDuration(runSeconds(job));
}

/** Relative error of a finished job or of its row, measured; NaN where none is known. */
export function errorOf(job) {
  return job.result?.error?.relative ?? job.result?.relative_error ?? NaN;
}

export function errorText(job) {
  const error = errorOf(job);
  return Number.isFinite(error) ? formatNumber(error) : "";
}

/** Bytes of the package, NaN where none are known. */
export function bytesOf(job) {
  return job.result?.budget?.bytes ?? job.result?.bytes ?? NaN;
}

export function sizeText(job) {
  const bytes = bytesOf(job);
  return Number.isFinite(bytes) ? formatBytes(bytes) : "";
}

/** Bytes of one model in 16 bits: what S, M and L count with dtype auto. NaN: not known. */
export function modelBytes(job) {
  const parameters = job.result?.budget?.model_parameters;
  return parameters === undefined ? NaN : 2 * parameters;
}

/** Seconds left: what the server says, else by what is done. NaN: nobody knows. */
export function secondsLeft(job, now = Date.now()) {
  if (job.state !== "running") return NaN;
  if (typeof job.eta_seconds === "number") return job.eta_seconds;
  if (!(job.progress > 0.01)) return NaN;
  return (runSeconds(job, now) / job.progress) * (1 - job.progress);
}
