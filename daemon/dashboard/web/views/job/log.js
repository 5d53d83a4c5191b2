// SPDX-License-Identifier: Apache-2.0
// The events of a job in words: states, stages and notes; points are in the curves.
import { append, h, say } from "../../app/dom.js";
import { formatMoment, formatNumber } from "../../app/format.js";
import { stageWords } from "./figures.js";

const MOST = 500; // lines that are kept; the oldest go

function words(event) {
  if (event.kind === "state") return event.state;
  if (event.kind === "stage") return `stage ${stageWords(event.stage)}`;
  if (event.kind === "frontier") return "error against size is known";
  if (event.kind === "note") return event.text ?? "";
  return `${event.stage} ${event.items_done ?? 0} of ${event.items_total ?? 0}` +
    (event.loss === undefined ? "" : `, loss ${formatNumber(event.loss)}`);
}

/** Returns {node, add(events)}. */
export function jobLog() {
  const list = h("ol", { class: "log" });
  const count = h("span", { class: "quiet" });
  const node = h("div", null, h("p", null, count),
                 h("div", { class: "scroll tall", tabindex: "0", role: "region",
                            "aria-label": "Log" }, list));
  let seen = 0;
  return {
    node,
    add(events) {
      seen += events.length;
      const lines = events.filter(({ kind }) => kind !== "point").slice(-MOST);
      append(list, lines.map((event) => h("li", null,
        h("time", { datetime: event.time }, formatMoment(event.time)), " ",
        event.attempt > 1 ? `attempt ${event.attempt}, ` : null, words(event))));
      while (list.childElementCount > MOST) list.firstChild.remove();
      say(count, `${seen} events, points among them`);
    },
  };
}
