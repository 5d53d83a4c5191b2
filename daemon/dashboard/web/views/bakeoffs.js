// SPDX-License-Identifier: Apache-2.0
// Bake-offs: every method on the same models, and didi at each of their sizes.
import { append, fill, h, keyed, say, set } from "../app/dom.js";
import { watch } from "../app/poll.js";
import { link } from "../app/router.js";
import { showNothing, showProblem } from "../parts/notice.js";
import { listTable, momentOf } from "../parts/rows.js";
import { stateMark } from "../parts/state.js";

const SECONDS = 10;
const BUSY_SECONDS = 2;

export const isOver = ({ state }) => !["queued", "running"].includes(state);

function bakeoffRow(first) {
  const mark = stateMark();
  const name = h("a", { href: link("bakeoffs", first.id) });
  const tasks = h("p", { class: "quiet small" });
  const merges = h("td", { class: "number" });
  const node = h("tr", null, h("th", { scope: "row" }, name, tasks), h("td", null, mark.node),
                 merges, h("td", { class: "number" }, momentOf(first.created_at)));
  return { node, update(bakeoff) {
    say(name, bakeoff.name || bakeoff.id);
    say(tasks, `${bakeoff.tasks.join(", ")} on ${bakeoff.base}`);
    mark.update(bakeoff.state);
    say(merges, `${bakeoff.members_ended} of ${bakeoff.members}`);
  } };
}

export function openBakeoffs(context) {
  context.title("Bake-offs");
  const { node: table, body } = listTable("Bake-offs", ["Bake-off", "State", ["Merges", "number"],
                                                        ["Asked for", "number"]]);
  const place = h("div");
  const notice = h("div");
  append(context.root, h("h1", { tabindex: "-1" }, "Bake-offs"),
    h("p", { class: "quiet" }, "Every method merges the same models at its own size, and didi at " +
      "each of these sizes. Pick the models in ",
      h("a", { href: link("new") }, "New merge"), "."), notice, place);
  watch("bakeoffs", {
    query: { limit: 200 }, signal: context.signal,
    seconds: (page) => page?.data.every(isOver) ? SECONDS : BUSY_SECONDS,
    show(page) {
      fill(notice);
      if (page.data.length === 0) fill(place, showNothing("No bake-offs yet."));
      else if (!table.isConnected) fill(place, table);
      keyed(body, page.data, ({ id }) => id, bakeoffRow);
      set(place, { "aria-busy": "false" });
      context.ready();
    },
    fail(problem) {
      fill(notice, showProblem(problem));
    },
  });
}
