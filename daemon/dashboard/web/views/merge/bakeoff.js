// SPDX-License-Identifier: Apache-2.0
// From the models of the form to a bake-off of every method on them.
import { post } from "../../app/api.js";
import { h, set } from "../../app/dom.js";
import { go, link } from "../../app/router.js";
import { keepDraft, keyOf } from "../../parts/draft.js";
import { actionButton } from "../../parts/rows.js";
import { bakeoffOf } from "./specification.js";

/** {node, update()}: there is something to compare where two fine-tunes are taken. */
export function bakeoffButton({ context, name, draft, methodOf }) {
  const ask = actionButton("Compare every method on them", async () => {
    const wanted = bakeoffOf(draft, methodOf());
    const key = keyOf(draft, "baking", wanted);
    keepDraft(name, draft); // the key with it
    const { id } = await post("bakeoffs", wanted,
                              { signal: context.signal, headers: { "Idempotency-Key": key } });
    draft.baking = null; // the next one is another
    keepDraft(name, draft);
    go(link("bakeoffs", id));
  });
  const node = h("div", { hidden: true }, h("p", { class: "quiet" }, "Or see first what each " +
    "method keeps of these fine-tunes, at its own size and by didi at the same."), ask.node);
  return { node, update() {
    set(node, { hidden: !draft.base || draft.tasks.length < 2 });
  } };
}
