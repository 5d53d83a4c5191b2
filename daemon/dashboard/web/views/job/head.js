// SPDX-License-Identifier: Apache-2.0
// The head of a job's page: its name, its state, and what can be done with it.
import { Away, Problem, post, remove, segment, send } from "../../app/api.js";
import { fill, h, say, set } from "../../app/dom.js";
import { go, link } from "../../app/router.js";
import { may } from "../../app/session.js";
import { confirmed } from "../../parts/confirm.js";
import { showProblem } from "../../parts/notice.js";
import { stateMark } from "../../parts/state.js";
import { isOver, nameOf } from "./figures.js";

const KEPT_MS = 60000; // a report, for the browser to write it

function button(label, act, kind = null) {
  return h("button", { type: "button", class: kind, onclick: act }, label);
}

/** `again()` asks for the job once more. Returns {node, update(job)}. */
export function jobHead(id, { announce, signal }, again) {
  const title = h("h1", { tabindex: "-1" }, id);
  const mark = stateMark();
  const fault = h("div");
  const path = `jobs/${segment(id)}`;

  async function act(run, done) {
    fill(fault);
    try {
      await run();
      announce(done);
      again();
    } catch (error) {
      if (signal.aborted) return;
      if (!(error instanceof Problem) && !(error instanceof Away)) throw error;
      fill(fault, showProblem(error));
    }
  }

  async function cancel() {
    if (await confirmed("Cancel this job?", "Finished layers are kept; it can be retried.",
                        "Cancel the job"))
      await act(() => post(`${path}/cancel`, undefined, { signal }), "Cancelled");
  }

  async function retry() {
    await act(() => post(`${path}/retry`, undefined, { signal }), "Queued again");
  }

  async function erase() {
    if (!await confirmed("Delete this job?", "Its package and its events go with it, for good.",
                         "Delete the job")) return;
    await act(async () => {
      await remove(path, { signal });
      go(link("jobs"));
    }, "Deleted");
  }

  /** Asked for with the token of who looks, then saved as a link to a file is. */
  async function save() {
    await act(async () => {
      const answer = await send("GET", `${path}/report.html`, { signal });
      const address = URL.createObjectURL(await answer.blob());
      h("a", { href: address, download: `report-${id}.html` }).click();
      setTimeout(() => URL.revokeObjectURL(address), KEPT_MS);
    }, "The report is saved");
  }

  const report = button("Save the report", save);
  const buttons = {
    rebudget: h("a", { class: "button", href: link("new", { from: id }) }, "Another size"),
    extend: h("a", { class: "button", href: link("new", { extend: id }) },
              "Add or remove tasks"),
    like: h("a", { class: "button", href: link("new", { like: id }) }),
    cancel: button("Cancel", cancel),
    retry: button("Retry", retry),
    erase: button("Delete", erase),
  };
  const changes = h("span", { class: "row actions" }, Object.values(buttons));
  const row = h("div", { class: "row", hidden: true }, report, changes); // until the job is known

  return {
    node: h("header", null,
      h("p", { class: "crumbs" }, h("a", { href: link("jobs") }, "Jobs")),
      h("div", { class: "spread" }, h("div", null, title,
        h("p", { class: "row" }, mark.node, h("code", { class: "quiet" }, id))), row), fault),
    update(job) {
      const over = isOver(job.state);
      const succeeded = job.state === "succeeded";
      say(title, nameOf(job));
      mark.update(job.state, job.cancel_requested && !over ? "stopping"
                           : job.state === "running" && job.stage !== null ? job.stage : "");
      set(row, { hidden: false });
      set(report, { hidden: !succeeded });
      set(changes, { hidden: !may("submit") });
      set(buttons.rebudget, { hidden: !(succeeded && job.reusable),
                              class: job.survey ? "button primary" : "button" });
      say(buttons.rebudget, job.survey ? "Merge at a size" : "Another size");
      set(buttons.like, { hidden: !over || job.specification.extend !== undefined });
      say(buttons.like, succeeded ? "Change and merge again" : "Change and try again");
      set(buttons.extend, { hidden: !succeeded || job.survey });
      set(buttons.cancel, { hidden: over || job.cancel_requested });
      set(buttons.retry, { hidden: job.state !== "failed" && job.state !== "cancelled" });
      set(buttons.erase, { hidden: !over });
    },
  };
}
