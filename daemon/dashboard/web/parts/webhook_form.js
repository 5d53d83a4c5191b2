// SPDX-License-Identifier: Apache-2.0
// The fields of a webhook: for a new one and for changes.
import { h } from "../app/dom.js";
import { field, labelLines, labelsOf, line, lines, tick } from "./fields.js";
import { clearField, showAtField } from "./notice.js";

const EVENTS = ["job.queued", "job.started", "job.succeeded", "job.failed", "job.cancelled",
                "model.ready", "model.broken"];

/** What the fields hold of a webhook, or at first. */
export function webhookDraft(webhook = null) {
  return { url: webhook?.url ?? "", description: webhook?.description ?? "",
           events: webhook?.events ?? [], labels: labelLines(webhook?.labels), secret: "" };
}

/** The request: what is empty and may be left out is left out. */
function webhookRequest(draft) {
  const request = { url: draft.url.trim(), description: draft.description, events: draft.events,
                    labels: labelsOf(draft.labels)[0] };
  if (draft.secret !== "") request.secret = draft.secret.trim();
  return request;
}

/** What the form itself finds wrong: {pointer, detail}, or null. */
function webhookFault(draft) {
  const [, bad] = labelsOf(draft.labels);
  return bad === null ? null
    : { pointer: "/labels", detail: `"${bad}" is no label. Write key=value, one a line.` };
}

/** The request of what the fields hold; null where they find something wrong, which they show. */
export function checkedRequest(draft, fields) {
  for (const input of fields.values()) clearField(input);
  const fault = webhookFault(draft);
  if (fault === null) return webhookRequest(draft);
  showAtField(fault, fields);
  return null;
}

/** {nodes, fields: pointer -> input}. `isNew`: a secret of one's own may be given. */
export function webhookFields({ draft, changed, isNew }) {
  const fields = new Map();
  const bind = (key) => [draft[key], (text) => {
    draft[key] = text;
    changed();
  }];
  const ticks = EVENTS.map((event) => {
    const one = tick("checkbox", event, { checked: draft.events.includes(event), onchange: () => {
      draft.events = EVENTS.filter((other) => other === event ? one.input.checked
                                                              : draft.events.includes(other));
      changed();
    } });
    return one.node;
  });
  const group = h("fieldset", { id: "webhook-events", tabindex: "-1" },
                  h("legend", null, "Events; none are all"),
                  h("div", { class: "row" }, ticks));
  fields.set("/events", group);
  return { fields, nodes: [
    field("Address", line(...bind("url"), { inputmode: "url", placeholder: "https://" }),
          { hint: "Where events are sent to.", fields, pointer: "/url" }),
    group,
    h("div", { class: "grid-fields" },
      field("Description", line(...bind("description")), { fields, pointer: "/description" }),
      field("Only jobs with these labels", lines(...bind("labels")),
            { hint: "key=value, one a line.", fields, pointer: "/labels" }),
      isNew ? field("Secret", line(...bind("secret"), { placeholder: "made by the server" }),
                    { hint: "whsec_ and the base64 of 24 to 64 bytes.", fields,
                      pointer: "/secret" }) : null),
  ] };
}
