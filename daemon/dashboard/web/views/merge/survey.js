// SPDX-License-Identifier: Apache-2.0
// A survey: a job that ends once error against size is known. Watched until there is a curve.
import { Problem, get, passes, post, segment } from "../../app/api.js";
import { awayMilliseconds, pause, untilVisible } from "../../app/poll.js";

const LOOK_MS = 500;

/** Submits it under a key, and gives the id of the job: however often it is sent, it is one. */
export async function startSurvey(specification, key, signal) {
  const job = await post("jobs", specification, { signal, headers: { "Idempotency-Key": key } });
  return job.id;
}

/** Looks at a job until it ended, which a survey does when there is a curve: `show(job, frontier or
 *  null)` each time; `fail(problem)` when it is gone. */
export async function watchSurvey(id, { signal, show, fail }) {
  for (let failures = 0; !signal.aborted;) {
    try {
      const job = await get(`jobs/${segment(id)}`, { signal });
      const frontier = job.state === "succeeded"
        ? await get(`jobs/${segment(id)}/frontier`, { signal }) : null;
      failures = 0;
      show(job, frontier);
      if (!["queued", "running"].includes(job.state)) return;
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof Problem && !passes(error)) {
        fail(error);
        return;
      }
      failures += 1;
    }
    await pause(failures > 0 ? awayMilliseconds(failures) : LOOK_MS, signal);
    await untilVisible(signal);
  }
}
