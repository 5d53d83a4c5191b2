// SPDX-License-Identifier: Apache-2.0
// The models: which there are, what is wrong with some, their tensors; fetches and uploads.
import { Problem, get, getAll, post, remove, segment, segments } from "../app/api.js";
import { append, fill, h, keyed, say, set } from "../app/dom.js";
import { formatBytes, formatCount, formatMany, formatPercent } from "../app/format.js";
import { watch } from "../app/poll.js";
import { may } from "../app/session.js";
import { confirmed } from "../parts/confirm.js";
import { draftOf, dropDraft, keepDraft } from "../parts/draft.js";
import { field, line } from "../parts/fields.js";
import { longTable } from "../parts/long_table.js";
import { clearField, showAtField, showNothing, showProblem } from "../parts/notice.js";
import { actionButton, foldedForm, listTable, momentOf } from "../parts/rows.js";
import { stateMark } from "../parts/state.js";

const BUSY_SECONDS = 1;
const CALM_SECONDS = 15;
const MANY = 8; // models from which a filter is of use
const FETCHES = 20;

const isOver = ({ state }) => !["queued", "running"].includes(state);

// ---- models ----

function tensorTable({ name, tensors }) {
  return longTable({
    summary: formatMany(tensors.length, "tensor"), caption: `Tensors of ${name}`,
    count: tensors.length,
    heads: ["Tensor", "Type", "Shape", "Size", "File"],
    row: (i) => {
      const { name: tensor, dtype, shape, bytes, file } = tensors[i];
      return [tensor, dtype, shape.join(" × ") || "one number", formatBytes(bytes), file];
    },
  });
}

/** What opens below a model: its tensors, and a way to remove it. */
function modelDetail(name, { signal, again }) {
  const place = h("div", null, h("p", { class: "quiet" }, "Loading …"));
  const act = actionButton("Remove this model", async () => {
    if (!await confirmed("Remove this model?", `${name} is deleted from the server's disk.`,
                         "Remove"))
      return false;
    await remove(`models/${segments(name)}`, { signal });
    again();
    return true;
  }, { done: `${name} removed`, name: `Remove ${name}` });

  async function load() {
    try {
      const model = await get(`models/${segments(name)}`, { signal });
      const table = tensorTable(model);
      fill(place,
           h("p", { class: "quiet" }, `Revision ${model.revision ?? "not known"}, registered `,
                    momentOf(model.registered_at), "."), table);
      table.open = model.tensors.length <= 200;
    } catch (error) {
      if (!signal.aborted) fill(place, showProblem(error));
    }
  }

  return { load, node: h("div", { class: "model-detail" }, place, may("admin") ? act.node : null) };
}

function modelRow(first, hooks) {
  const mark = stateMark();
  const what = h("span", { class: "quiet" });
  const reason = h("p", { class: "fault" });
  const detail = modelDetail(first.name, hooks);
  const fold = h("details", { class: "model", ontoggle: () => fold.open && detail.load() },
    h("summary", null, h("span", { class: "model-name" }, first.name), mark.node, what),
    detail.node);
  const node = h("li", null, fold, reason);
  return { node, update(model) {
    mark.update(model.state);
    say(what,
        `${model.kind}, ${formatBytes(model.bytes)}, ${formatCount(model.parameters)} parameters`);
    say(reason, model.reason ?? "");
    set(reason, { hidden: model.reason === null });
  } };
}

function modelList(context) {
  const list = h("ul", { class: "models" });
  const empty = h("div");
  const count = h("p", { class: "quiet", role: "status" });
  const filter = h("input", { type: "search", "aria-label": "Filter models", placeholder: "Filter",
                              oninput: () => draw() });
  const notice = h("div");
  const state = { models: [] };

  function draw() {
    const wanted = filter.value.trim().toLowerCase();
    const seen = state.models.filter(({ name }) => name.toLowerCase().includes(wanted));
    keyed(list, seen, ({ name }) => name,
          (model) => modelRow(model, { signal: context.signal, again: load }));
    const broken = state.models.filter((model) => model.state === "broken").length;
    set(filter, { hidden: state.models.length <= MANY });
    say(count,
        `${formatMany(state.models.length, "model")}${broken > 0 ? `, ${broken} broken` : ""}`);
    fill(empty, state.models.length > 0 ? null : showNothing("No models yet.",
      "Copy them into one of the server's model directories and rescan, or fetch one."));
  }

  async function load() {
    try {
      state.models = await getAll("models", { signal: context.signal });
      fill(notice);
      draw();
    } catch (error) {
      if (context.signal.aborted) return;
      fill(notice, showProblem(error));
    }
    context.ready();
  }

  const rescan = actionButton("Rescan", async () => {
    const found = await post("models/rescan", undefined,
                             { signal: context.signal, patienceMs: 600000 });
    context.announce(`${found.ready} ready, ${found.broken} broken`);
    await load();
  }, { name: "Rescan the model directories" });
  return {
    load,
    node: h("div", null, h("div", { class: "spread" }, count, h("div", { class: "row" }, filter,
              may("admin") ? rescan.button : null)), rescan.notice, notice, empty, list),
  };
}

// ---- fetches ----

function fetchRow(first, { signal, again, announce }) {
  const mark = stateMark();
  const bar = h("progress", { "aria-label": `Progress of ${first.name}` });
  const size = h("span", { class: "quiet" });
  const fault = h("p", { class: "fault" });
  const stop = actionButton("Cancel", async () => {
    await post(`fetches/${segment(first.id)}/cancel`, undefined, { signal });
    again();
  }, { done: "Cancelled", name: `Cancel the fetch of ${first.name}` });
  const forget = actionButton("Forget", async () => {
    await remove(`fetches/${segment(first.id)}`, { signal });
    again();
  }, { kind: "plain", done: "Forgotten", name: `Forget the fetch of ${first.name}` });
  const node = h("tr", null, h("th", { scope: "row" }, first.name),
    h("td", null, h("code", null, first.source), fault), h("td", null, mark.node),
    h("td", { class: "progress-cell" }, bar, size),
    h("td", { class: "number" }, momentOf(first.created_at)),
    h("td", null, may("submit") ? [stop.node, forget.node] : null));
  let before = null;
  return { node, update(item) {
    mark.update(item.state);
    if (before !== null && before !== item.state) announce(`${item.name}: ${item.state}`);
    before = item.state;
    const isKnown = item.bytes_total > 0;
    set(bar, { hidden: isOver(item), max: isKnown ? item.bytes_total : null });
    if (isKnown) bar.value = item.bytes_done;
    else bar.removeAttribute("value");
    say(size, isKnown ? `${formatBytes(item.bytes_done)} of ${formatBytes(item.bytes_total)}`
                      : item.bytes_done > 0 ? formatBytes(item.bytes_done) : "");
    say(fault, item.error?.detail ?? "");
    set(fault, { hidden: item.error === null });
    set(stop.node, { hidden: isOver(item) });
    set(forget.node, { hidden: !isOver(item) });
  } };
}

function fetchForm(context, again) {
  const draft = draftOf("fetch", { source: "", name: "" });
  const fields = new Map();
  const notice = h("div");
  const bind = (key, shown) => line(draft[key], (text) => {
    draft[key] = text;
    keepDraft("fetch", draft);
    clearField(fields.get(`/${key}`));
    shown?.();
  });
  const name = bind("name");
  const source = bind("source", () => set(name, { placeholder: nameOf(draft.source) }));
  const body = [field("Source", source, { fields, pointer: "/source",
      hint: "hf:ORG/NAME, an https address of a safetensors file, or a directory on the server." }),
    field("Name", name, { hint: "What the model is called here.", fields, pointer: "/name" }),
    notice];
  const form = foldedForm({
    title: "Fetch a model", verb: "Fetch", body,
    async send() {
      for (const input of fields.values()) clearField(input);
      fill(notice);
      const asked = { name: draft.name.trim() || nameOf(draft.source),
                      source: draft.source.trim() };
      await post("models", asked, { signal: context.signal });
      Object.assign(draft, { source: "", name: "" });
      source.value = "";
      name.value = "";
      set(name, { placeholder: "" });
      dropDraft("fetch");
      context.announce("The fetch has begun");
      again();
    },
    fail(error) {
      if (!(error instanceof Problem && showAtField(error, fields))) fill(notice,
          showProblem(error));
    },
  });
  set(name, { placeholder: nameOf(draft.source) });
  return form.node;
}

/** A hub's model is called as there. */
function nameOf(source) {
  const hub = /^\s*hf:(\S+)/.exec(source);
  if (hub !== null) return hub[1];
  const file = /([A-Za-z0-9_-][A-Za-z0-9._-]*?)(\.safetensors)?\/?(#.*)?$/.exec(source.trim());
  return file?.[1] ?? "";
}

function fetchSection(context, modelsChanged) {
  const { node: table, body } = listTable("Fetches", ["Model", "Source", "State", "Progress",
    ["Begun", "number"], "Actions"]);
  const place = h("section", { class: "card", hidden: true }, h("h2", null, "Fetches"), table);
  let done = null;
  const watching = watch("fetches", {
    query: { limit: FETCHES }, signal: context.signal, fail: () => true,
    seconds: (page) => page?.data.some((item) => !isOver(item)) ? BUSY_SECONDS : CALM_SECONDS,
    show(page) {
      set(place, { hidden: page.data.length === 0 });
      keyed(body, page.data, ({ id }) => id, (item) =>
        fetchRow(item, { ...context, again: () => watching.again() }));
      const finished = page.data.filter(({ state }) => state === "succeeded").length;
      if (done !== null && finished > done) modelsChanged();
      done = finished;
    },
  });
  return { place, form: may("submit") ? fetchForm(context, () => watching.again()) : null };
}

// ---- uploads ----

function uploadRow(first, { signal, again }) {
  const size = h("span", { class: "quiet" });
  const bar = h("progress", { max: "1", "aria-label": `Progress of ${first.name}` });
  const act = actionButton("Delete", async () => {
    if (!await confirmed("Delete this upload?", `What came of ${first.name} is deleted.`, "Delete"))
      return false;
    await remove(`models/uploads/${segment(first.id)}`, { signal });
    again();
    return true;
  }, { done: "Deleted", name: `Delete the upload of ${first.name}` });
  const node = h("tr", null, h("th", { scope: "row" }, first.name),
                 h("td", { class: "progress-cell" }, bar, size),
    h("td", { class: "number" }, momentOf(first.updated_at)),
    h("td", null, may("submit") ? act.node : null));
  return { node, update(upload) {
    const there = upload.files.reduce((sum, file) => sum + file.offset, 0);
    bar.value = upload.bytes > 0 ? there / upload.bytes : 0;
    say(size, `${formatBytes(there)} of ${formatBytes(upload.bytes)} in ` +
      `${formatMany(upload.files.length, "file")}, ${formatPercent(bar.value)}`);
  } };
}

function uploadSection(context) {
  const { node: table,
          body } = listTable("Uploads", ["Model", "Progress", ["Last part", "number"], "Actions"]);
  const place = h("section", { class: "card", hidden: true }, h("h2", null, "Open uploads"),
    h("p", { class: "quiet" }, "Begun by ", h("code", null, "didictl model push"),
      ", which takes one up again where it broke off."), table);
  const watching = watch("models/uploads", {
    query: { limit: 100 }, signal: context.signal, seconds: CALM_SECONDS, fail: () => false,
    show(page) {
      const open = page.data.filter(({ state }) => state !== "committed");
      set(place, { hidden: open.length === 0 });
      keyed(body, open, ({ id }) => id, (upload) =>
        uploadRow(upload, { signal: context.signal, again: () => watching.again() }));
    },
  });
  return place;
}

export function openModels(context) {
  context.title("Models");
  const list = modelList(context);
  const fetches = fetchSection(context, list.load);
  append(context.root, h("h1", { tabindex: "-1" }, "Models"), list.node,
         h("div", { class: "stack" }, fetches.form, fetches.place, uploadSection(context)));
  list.load();
}
