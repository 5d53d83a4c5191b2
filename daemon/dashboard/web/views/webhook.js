// SPDX-License-Identifier: Apache-2.0
// One webhook: its settings, its secret, what was sent and what came back.
import { Problem, get, post, remove, segment } from "../app/api.js";
import { append, fill, h, keyed, say, set } from "../app/dom.js";
import { watch } from "../app/poll.js";
import { go, link, replaceQuery } from "../app/router.js";
import { confirmed } from "../parts/confirm.js";
import { facts } from "../parts/facts.js";
import { choiceOf } from "../parts/fields.js";
import { showAtField, showNothing, showProblem } from "../parts/notice.js";
import { actionButton, foldedForm, listTable, momentOf, showOver,
         showSecret } from "../parts/rows.js";
import { stateMark } from "../parts/state.js";
import { checkedRequest, webhookDraft, webhookFields } from "../parts/webhook_form.js";

const SECONDS = 5;
const BUSY_SECONDS = 1;
const PAGE = 50;
const STATES = [["", "all"], ["queued", "queued"], ["succeeded", "succeeded"],
                ["failed", "failed"]];
const OVERLAPS = [["0", "at once"], ["3600", "after an hour"], ["86400", "after a day"],
                  ["604800", "after a week"]];

// ---- deliveries ----

/** The body that was sent and the answer. */
async function showDelivery(path, signal) {
  const found = await get(path, { signal });
  showOver(`${found.type} of ${found.subject}`,
    h("h3", null, "Sent"),
    h("pre", { class: "block", tabindex: "0" }, JSON.stringify(found.request, null, 2)),
    h("h3", null, "Answer"),
    found.error === null ? null : h("p", { class: "fault" }, found.error),
    found.answer ? h("pre", { class: "block", tabindex: "0" }, found.answer)
                 : h("p", { class: "quiet" },
                     found.http_status === null ? "None." : "Without a body."));
}

function deliveryRow(first, { webhook, signal, again }) {
  const path = `webhooks/${segment(webhook)}/deliveries/${segment(first.id)}`;
  const what = `${first.type} of ${first.subject}`;
  const mark = stateMark();
  const cells = ["attempts", "answer", "seconds"].map(() => h("td", { class: "number" }));
  const when = h("td", { class: "number" });
  const open = actionButton("Details", () => showDelivery(path, signal),
                            { name: `Details of ${what}` });
  const redeliver = actionButton("Send again", async () => {
    await post(`${path}/redeliver`, undefined, { signal });
    again();
  }, { done: "Queued again", name: `Send again: ${what}` });
  const node = h("tr", null, h("th", { scope: "row" }, first.type,
                               h("p", { class: "quiet small" }, first.subject)),
    h("td", null, mark.node), cells, when,
    h("td", null, h("div", { class: "row" }, open.node, redeliver.node)));
  return { node, update(delivery) {
    mark.update(delivery.state);
    say(cells[0], delivery.attempts);
    say(cells[1], delivery.http_status ?? delivery.error ?? "-");
    set(cells[1], { title: delivery.error });
    say(cells[2], delivery.seconds === null ? "-" : `${delivery.seconds.toFixed(2)} s`);
    fill(when, momentOf(delivery.created_at), delivery.next_attempt_at === null ? null
      : h("p", { class: "quiet small" }, "again ", momentOf(delivery.next_attempt_at)));
  } };
}

function deliverySection(context, webhook) {
  const { node: table, body } = listTable("Deliveries", ["Event", "State", ["Attempts", "number"],
    ["Answer", "number"], ["Took", "number"], ["Made", "number"], "Actions"]);
  const place = h("div");
  const notice = h("div");
  const older = h("button", { type: "button", hidden: true }, "Older");
  const newest = h("button", { type: "button", hidden: true, onclick: () => begin(null) },
                   "Newest");
  const state = choiceOf(STATES, context.query.get("state") ?? "", () => {
    replaceQuery({ state: state.value });
    begin(null);
  });
  set(state, { "aria-label": "State of the deliveries" });
  let stop = null;
  let watching = null;

  function begin(after) {
    stop?.abort();
    stop = new AbortController();
    set(newest, { hidden: after === null });
    watching = watch(`webhooks/${segment(webhook)}/deliveries`, {
      query: { limit: PAGE, after, state: state.value },
      signal: AbortSignal.any([context.signal, stop.signal]),
      seconds: (page) => page?.data.some((one) => one.state === "queued") ? BUSY_SECONDS : SECONDS,
      show(page) {
        fill(notice);
        if (page.data.length === 0) fill(place,
                                         showNothing("No deliveries.", "Send a test to see one."));
        else if (!table.isConnected) fill(place, table);
        keyed(body, page.data, ({ id }) => id, (one) => deliveryRow(one,
          { webhook, signal: context.signal, again: () => watching.again() }));
        set(older, { hidden: !page.has_more });
        older.onclick = () => begin(page.next);
      },
      fail(problem) {
        fill(notice, showProblem(problem));
      },
    });
  }

  begin(null);
  return { again: () => watching.again(),
           node: h("section", { class: "card" },
             h("div", { class: "spread" }, h("h2", null, "Deliveries"), state), notice, place,
             h("div", { class: "row" }, newest, older)) };
}

// ---- settings ----

function editForm(context, webhook, changed) {
  const draft = webhookDraft(webhook);
  const notice = h("div");
  const { fields, nodes } = webhookFields({ draft, isNew: false, changed: () => {} });
  const form = foldedForm({
    title: "Change", verb: "Save", body: [nodes, notice],
    async send() {
      fill(notice);
      const request = checkedRequest(draft, fields);
      if (request === null) return;
      await post(`webhooks/${segment(webhook.id)}`, request, { signal: context.signal });
      context.announce("Saved");
      form.close();
      await changed();
    },
    fail(error) {
      if (!(error instanceof Problem && showAtField(error, fields)))
        fill(notice, showProblem(error));
    },
  });
  return form.node;
}

/** Buttons for what is done to it; `now()` is the webhook as last seen. */
function actions(context, id, now, changed) {
  const path = `webhooks/${segment(id)}`;
  const { signal } = context;
  const overlap = choiceOf(OVERLAPS, "86400", () => {});
  set(overlap, { "aria-label": "When the old secret ends" });
  const test = actionButton("Send a test", async () => {
    await post(`${path}/test`, undefined, { signal });
    await changed();
  }, { kind: "primary", done: "A test is sent" });
  const toggle = actionButton("Disable", async () => {
    await post(path, { enabled: !now().enabled }, { signal });
    await changed();
    context.announce(now().enabled ? "Enabled" : "Disabled");
  });
  const rotate = actionButton("New secret", async () => {
    const found = await post(`${path}/rotate`, { overlap_seconds: Number(overlap.value) },
                             { signal });
    await showSecret("The webhook's new secret", found.secret);
    await changed();
  });
  const away = actionButton("Remove", async () => {
    if (!await confirmed("Remove this webhook?", "Its deliveries are removed too, sent or not.",
                         "Remove"))
      return false;
    await remove(path, { signal });
    go(link("webhooks"));
    return true;
  }, { done: "Removed" });
  const all = [test, toggle, rotate, away];
  return {
    update: () => say(toggle.button, now().enabled ? "Disable" : "Enable"),
    node: h("div", null, h("div", { class: "row" }, test.button, toggle.button, away.button,
              h("span", { class: "row" }, rotate.button,
                h("span", { class: "quiet" }, "the old one ends"), overlap)),
            all.map(({ notice }) => notice)),
  };
}

function told(webhook) {
  const mark = stateMark();
  mark.update(webhook.enabled ? "enabled" : "disabled");
  const labels = Object.entries(webhook.labels).map(([key, value]) => `${key}=${value}`);
  return [h("p", null, mark.node, webhook.description === "" ? null : ` ${webhook.description}`),
    webhook.disabled_reason === null ? null : h("div", { class: "notice bad" },
      h("strong", null, "The server disabled it."), h("p", null, webhook.disabled_reason),
      h("p", null, "Mend the receiver, then enable it.")),
    facts([["Events", webhook.events.length === 0 ? "all" : webhook.events.join(", ")],
      ["Labels", labels.join(", ")], ["Waiting", String(webhook.queued)],
      ["Lost", webhook.dropped > 0 ? String(webhook.dropped) : null],
      ["Failing since", webhook.failing_since === null ? null : momentOf(webhook.failing_since)],
      ["The old secret signs until",
       webhook.old_secret_until === null ? null : momentOf(webhook.old_secret_until)],
      ["Made", momentOf(webhook.created_at)]])];
}

function settings(context, first, reload) {
  const state = { webhook: first };
  const place = h("div");
  const buttons = actions(context, first.id, () => state.webhook, reload);
  function update(webhook) {
    state.webhook = webhook;
    fill(place, told(webhook));
    buttons.update();
  }
  update(first);
  return { update, nodes: [h("section", { class: "card" }, place, buttons.node),
                           editForm(context, first, reload)] };
}

export async function openWebhook(context) {
  const id = context.parameters.webhook;
  const heading = h("h1", { tabindex: "-1" }, "Webhook");
  const place = h("div", { class: "stack" });
  context.title("Webhook");
  append(context.root, h("p", null, h("a", { href: link("webhooks") }, "All webhooks")), heading,
         place);

  async function load() {
    const webhook = await get(`webhooks/${segment(id)}`, { signal: context.signal });
    say(heading, webhook.url);
    context.title(webhook.url);
    return webhook;
  }

  try {
    const shown = settings(context, await load(), async () => {
      shown.update(await load());
      deliveries.again();
    });
    const deliveries = deliverySection(context, id);
    append(place, shown.nodes, deliveries.node);
    context.ready();
  } catch (error) {
    if (context.signal.aborted) return;
    if (error instanceof Problem) context.fail(error);
    else fill(place, showProblem(error));
  }
}
