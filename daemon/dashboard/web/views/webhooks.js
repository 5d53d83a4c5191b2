// SPDX-License-Identifier: Apache-2.0
// Webhooks: where events are sent to.
import { Problem, post } from "../app/api.js";
import { append, fill, h, keyed, say, set } from "../app/dom.js";
import { watch } from "../app/poll.js";
import { go, link } from "../app/router.js";
import { draftOf, dropDraft, keepDraft } from "../parts/draft.js";
import { showAtField, showNothing, showProblem } from "../parts/notice.js";
import { foldedForm, listTable, momentOf, showSecret } from "../parts/rows.js";
import { stateMark } from "../parts/state.js";
import { checkedRequest, webhookDraft, webhookFields } from "../parts/webhook_form.js";

const SECONDS = 10;

function webhookRow(first) {
  const mark = stateMark();
  const address = h("a", { href: link("webhooks", first.id) });
  const about = h("p", { class: "quiet small" });
  const events = h("td");
  const waiting = h("td", { class: "number" });
  const failing = h("td");
  const node = h("tr", null, h("th", { scope: "row" }, address, about), h("td", null, mark.node),
                 events, waiting, failing);
  return { node, update(webhook) {
    say(address, webhook.url);
    say(about, webhook.description);
    mark.update(webhook.enabled ? "enabled" : "disabled");
    say(events, webhook.events.length === 0 ? "all" : webhook.events.join(", "));
    say(waiting,
        webhook.dropped > 0 ? `${webhook.queued}, ${webhook.dropped} lost` : webhook.queued);
    fill(failing,
         webhook.disabled_reason !== null ? h("span", { class: "fault" }, webhook.disabled_reason)
      : webhook.failing_since === null ? "-"
        : h("span", { class: "fault" }, "since ", momentOf(webhook.failing_since)));
  } };
}

function addForm(context) {
  const draft = draftOf("webhook", webhookDraft());
  const notice = h("div");
  const { fields, nodes } = webhookFields({
    draft, isNew: true,
    changed: () => keepDraft("webhook", { ...draft, secret: "" }), // a secret is kept nowhere
  });
  const form = foldedForm({
    title: "Add a webhook", verb: "Add", body: [nodes, notice],
    async send() {
      fill(notice);
      const request = checkedRequest(draft, fields);
      if (request === null) return;
      const webhook = await post("webhooks", request, { signal: context.signal });
      dropDraft("webhook");
      await showSecret("The webhook's secret", webhook.secret,
        h("p", null, "Receivers verify events with it, as docs/webhooks.md says."));
      go(link("webhooks", webhook.id));
    },
    fail(error) {
      if (!(error instanceof Problem && showAtField(error, fields)))
        fill(notice, showProblem(error));
    },
  });
  return form.node;
}

export function openWebhooks(context) {
  context.title("Webhooks");
  const { node: table, body } = listTable("Webhooks",
    ["Address", "State", "Events", ["Waiting", "number"], "Failing"]);
  const place = h("div");
  const notice = h("div");
  append(context.root, h("h1", { tabindex: "-1" }, "Webhooks"),
         h("p", { class: "quiet" },
           "Events of jobs and models are sent to these addresses, signed."),
         notice, place, h("div", { class: "stack" }, addForm(context)));
  watch("webhooks", {
    query: { limit: 200 }, signal: context.signal, seconds: SECONDS,
    show(page) {
      fill(notice);
      if (page.data.length === 0) fill(place, showNothing("No webhooks yet.", "Add one below."));
      else if (!table.isConnected) fill(place, table);
      keyed(body, page.data, ({ id }) => id, webhookRow);
      set(place, { "aria-busy": "false" });
      context.ready();
    },
    fail(problem) {
      fill(notice, showProblem(problem));
    },
  });
}
