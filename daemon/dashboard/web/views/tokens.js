// SPDX-License-Identifier: Apache-2.0
// Tokens: who may ask the server, made here and shown once.
import { Problem, post, remove, segment } from "../app/api.js";
import { append, fill, h, keyed, set } from "../app/dom.js";
import { watch } from "../app/poll.js";
import { adopted, keepToken, whoAmI } from "../app/session.js";
import { confirmed } from "../parts/confirm.js";
import { draftOf, dropDraft, keepDraft } from "../parts/draft.js";
import { choiceOf, field, line } from "../parts/fields.js";
import { clearField, showAtField, showNothing, showProblem } from "../parts/notice.js";
import { actionButton, foldedForm, listTable, momentOf, showSecret } from "../parts/rows.js";

const SECONDS = 15;
const PAGE = 200;
const SCOPES = [["read", "read: look at everything"],
                ["submit", "submit: also start jobs and fetches"],
                ["admin", "admin: also models, webhooks, hooks and tokens"]];
const LIVES = [["", "never"], ["86400", "after a day"], ["2592000", "after 30 days"],
               ["7776000", "after 90 days"], ["31536000", "after a year"]];

function tokenRow(token, { signal, again }) {
  const isMine = token.id === whoAmI()?.id;
  const act = actionButton("Revoke", async () => {
    const detail = isMine ? "It is the one you use: you are asked for another one at once."
                          : "Who uses it is refused from now on.";
    if (!await confirmed(`Revoke ${token.name}?`, detail, "Revoke")) return false;
    await remove(`tokens/${segment(token.id)}`, { signal });
    again();
    return true;
  }, { done: "Revoked", name: `Revoke ${token.name}` });
  const used = h("td", { class: "number" });
  const ends = h("td", { class: "number" });
  const node = h("tr", null, h("th", { scope: "row" }, token.name, isMine ? " (yours)" : null),
    h("td", null, token.scope), h("td", { class: "number" }, momentOf(token.created_at)), ends,
    used,
    h("td", null, act.node));
  return { node, update(now) {
    fill(used, momentOf(now.last_used_at));
    fill(ends, momentOf(now.expires_at));
  } };
}

function addForm(context, watching) {
  const draft = draftOf("token", { name: "", scope: "submit", life: "" });
  const fields = new Map();
  const notice = h("div");
  const keep = (key) => (value) => {
    draft[key] = value;
    keepDraft("token", draft);
  };
  const name = line(draft.name, keep("name"));
  const body = [
    whoAmI()?.authenticated_by === "local" ? h("p", { class: "notice" },
      "There is no token yet: from the first one on, the server asks everybody for one. " +
      "Make one of scope admin first.")
      : null,
    h("div", { class: "grid-fields" },
      field("Name", name, { hint: "Who or what uses it.", fields, pointer: "/name" }),
      field("Scope", choiceOf(SCOPES, draft.scope, keep("scope")), { fields, pointer: "/scope" }),
      field("Ends", choiceOf(LIVES, draft.life, keep("life")),
            { fields, pointer: "/expires_seconds" })), notice];
  const form = foldedForm({
    title: "Create a token", verb: "Create", body,
    async send() {
      for (const input of fields.values()) clearField(input);
      fill(notice);
      const asked = { name: draft.name.trim(), scope: draft.scope };
      if (draft.life !== "") asked.expires_seconds = Number(draft.life);
      // from the first token on the server asks for one: not over the secret, which is shown once
      const wasOpen = whoAmI()?.authenticated_by === "local";
      const release = watching.hold();
      try {
        const token = await post("tokens", asked, { signal: context.signal });
        draft.name = "";
        name.value = "";
        dropDraft("token");
        const isMine = wasOpen && token.scope === "admin";
        if (isMine) keepToken(token.token);
        await showSecret(`Token ${token.name}`, token.token,
          h("p", null, "Programs take it from ", h("code", null, "DIDI_TOKEN"), "; ",
            h("code", null, "didictl login"), " keeps it."),
          isMine ? h("p", null, "This tab goes on with it.") : null);
        if (isMine) await adopted();
      } finally {
        release();
      }
      watching.again();
    },
    fail(error) {
      if (!(error instanceof Problem && showAtField(error, fields))) fill(notice,
          showProblem(error));
    },
  });
  return form.node;
}

export function openTokens(context) {
  context.title("Tokens");
  const { node: table, body } = listTable("Tokens",
    ["Name", "Scope", ["Made", "number"], ["Ends", "number"], ["Last used", "number"], "Actions"]);
  const place = h("div");
  const notice = h("div");
  const rest = h("p", { class: "quiet", hidden: true }, `These are ${PAGE} of them; `,
                 h("code", null, "didid token list"), " tells all.");
  append(context.root, h("h1", { tabindex: "-1" }, "Tokens"), notice, place, rest,
         h("div", { class: "stack" }, addForm(context, {
           again: () => watching.again(), hold: () => watching.hold() })));
  const watching = watch("tokens", {
    query: { limit: PAGE }, signal: context.signal, seconds: SECONDS,
    show(page) {
      fill(notice);
      if (page.data.length === 0)
        fill(place, showNothing("No tokens.",
                                "Who reaches this server from its machine may do all."));
      else if (!table.isConnected) fill(place, table);
      keyed(body, page.data, ({ id }) => id, (token) =>
        tokenRow(token, { signal: context.signal, again: () => watching.again() }));
      set(rest, { hidden: !page.has_more });
      context.ready();
    },
    fail(problem) {
      fill(notice, showProblem(problem));
    },
  });
}
