// SPDX-License-Identifier: Apache-2.0
// What most people leave as it is: the method with its options, which tensors, how they are stored.
import { fill, h, say, set } from "../../app/dom.js";
import { formatNumber } from "../../app/format.js";
import { choiceOf, field, line, lines } from "../../parts/fields.js";

const DTYPES = ["auto", "bf16", "f16", "f32", "int8", "int4", "int3"];
const OWN = [["keep", "keep whole, in the task's expert"], ["drop", "drop"],
             ["refuse", "refuse such a task"]];
const MISSING = [["auto", "take what is harmless from the base, else refuse"],
                 ["base", "take from the base"], ["refuse", "refuse such a task"]];

function rangeText({ type, minimum, exclusive_minimum: above, maximum }) {
  if (type !== "number" && type !== "integer") return "";
  const least = minimum !== undefined ? `from ${formatNumber(minimum, 8)}`
    : above !== undefined ? `above ${formatNumber(above, 8)}` : "";
  const most = maximum !== undefined ? `to ${formatNumber(maximum, 12)}` : "";
  return [type === "integer" ? "whole" : "", least, most].filter((text) => text !== "").join(" ");
}

function defaultText(option) {
  return typeof option.default === "number" ? formatNumber(option.default, 8)
    : String(option.default);
}

function optionField(option, draft, fields, changed) {
  const put = (text) => {
    draft.options[option.field] = text;
    changed();
  };
  const typed = draft.options[option.field] ?? "";
  const words = option.type === "boolean" ? ["true", "false"] : option.enum;
  const input = words === undefined
    ? line(typed, put, { placeholder: defaultText(option), inputmode: "decimal" })
    : choiceOf(words.map((word) => [word, word]), typed === "" ? defaultText(option) : typed, put);
  const range = rangeText(option);
  const name = option.field.slice(1).replace("method_options/", "").replaceAll("/", ".")
    .replaceAll("_", " ");
  return field(name, input, { hint: range === "" ? option.help : `${option.help} (${range})`,
                              fields, pointer: option.field });
}

function methodWords({ name, usable, needs, summary }) {
  return [name, usable ? `${name}: ${summary}` : `${name}: cannot be used here`, !usable, needs];
}

/** {node, fields: pointer -> input, method(), open()}; `methods` as of GET /v1/methods. */
export function optionsForm({ draft, methods, changed }) {
  const fixed = new Map();
  const own = new Map(); // of the method's options
  const generated = h("div", { class: "grid-fields" });
  const note = h("p", { class: "quiet" });
  const bind = (key) => [draft[key], (text) => {
    draft[key] = text;
    changed();
  }];
  const globs = (key, label, hint, pointer) =>
    field(label, lines(...bind(key)), { hint, fields: fixed, pointer });
  const choice = (key, label, options, pointer, hint = null) => {
    const [value, put] = bind(key);
    return field(label, choiceOf(options, value, put), { fields: fixed, pointer, hint });
  };
  const methodChoice = choiceOf(methods.map(methodWords), draft.method, (name) => {
    draft.method = name;
    draft.options = {};
    drawMethod();
    changed();
  });
  const whole = [globs("whole", "Keep whole", "Matrices, a pattern a line, as *.embed*.",
                       "/dense_tensors"),
                 globs("lowRank", "Never keep whole", "Matrices the size rule would keep.",
                       "/low_rank_tensors")];

  const methodOf = () => methods.find(({ name }) => name === draft.method) ?? null;

  function drawMethod() {
    own.clear();
    const method = methodOf();
    const options = method?.options ?? [];
    fill(generated, options.map((option) => optionField(option, draft, own, changed)));
    for (const node of whole)
      set(node, { hidden: !options.some((option) => option.field === "/dense") });
    say(note,
        method?.takes_budget === false ? "This method's size is its own: it takes none." : "");
  }

  drawMethod();
  const dtypes = [["", "as the method says"], ...DTYPES.map((word) => [word, word])];
  return {
    method: methodOf,
    fields: () => new Map([...fixed, ...own]),
    node: h("details", { class: "card fold" }, h("summary", null, h("h2", null, "Advanced")),
      field("Method", methodChoice, { fields: fixed, pointer: "/method" }), note, generated,
      h("h3", null, "Which tensors"),
      h("div", { class: "grid-fields" },
        globs("include", "Merge only",
              "Names of tensors, a pattern a line; * is any part. Empty: all.", "/include"),
        globs("exclude", "Leave as the base has them", "Patterns, one a line.", "/exclude"), whole,
        choice("ownTensors", "What only one task has", OWN, "/own_tensors",
               "A classifier, or rows of a vocabulary that grew."),
        choice("missing", "What a task lacks", MISSING, "/missing")),
      h("h3", null, "Result"),
      h("div", { class: "grid-fields" },
        choice("dtype", "Stored as", dtypes, "/output",
               "auto: 1 to 8 bits each, the most kept for its bytes."),
        field("Seed", line(...bind("seed"), { placeholder: "0", inputmode: "numeric" }),
              { fields: fixed, pointer: "/seed" }))),
  };
}

/** Name, labels and priority: what is for people and the queue. `propose()`: a name for the job,
 *  taken until somebody types one. {node, fields: pointer -> input, update()}. */
export function peopleForm({ draft, changed, propose }) {
  const fields = new Map();
  const bind = (key) => [draft[key], (text) => {
    draft[key] = text;
    changed();
  }];
  const name = line(...bind("name"));
  const shown = h("span", { class: "quiet fold-note" });

  function update() {
    const text = draft.name ?? propose();
    if (name.value !== text) name.value = text;
    say(shown, text);
  }

  update();
  return {
    fields: () => fields, update,
    node: h("details", { class: "card fold" },
      h("summary", null, h("h2", null, "Name and labels"), shown),
      h("div", { class: "grid-fields" },
        field("Name", name, { hint: "For people; need not be unique.", fields,
                              pointer: "/name" }),
        field("Labels", lines(...bind("labels")), { hint: "key=value, one a line.", fields,
                                                    pointer: "/labels" }),
        field("Priority", line(...bind("priority"), { placeholder: "0", inputmode: "numeric" }),
              { hint: "-100 to 100; higher goes first.", fields, pointer: "/priority" }))),
  };
}
