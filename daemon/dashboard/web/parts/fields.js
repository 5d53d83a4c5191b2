// SPDX-License-Identifier: Apache-2.0
// Fields of forms: an input with its label and a hint; what was typed, as the interface takes it.
import { freshId, h, set } from "../app/dom.js";

/** An input below its label. `fields` (pointer -> input) learns where problems at `pointer` go. */
export function field(label, input, { hint = null, fields = null, pointer = null } = {}) {
  if (input.id === "") input.id = freshId("field");
  fields?.set(pointer, input);
  if (hint !== null) set(input, { "aria-describedby": `${input.id}-hint` });
  return h("div", { class: "field" }, h("label", { for: input.id }, label), input,
           hint === null ? null : h("p", { class: "hint quiet", id: `${input.id}-hint` }, hint));
}

/** A checkbox or radio button before its label. */
export function tick(type, label, attributes) {
  const input = h("input", { type, id: freshId("tick"), ...attributes });
  return { input, node: h("span", { class: "tick" }, input, h("label", { for: input.id }, label)) };
}

/** A choice: options are [value, text, isDisabled]. */
export function choiceOf(options, value, onchange) {
  const select = h("select", { onchange: () => onchange(select.value) });
  setOptions(select, options, value);
  return select;
}

export function setOptions(select, options, value) {
  select.replaceChildren(...options.map(([name, text, isDisabled]) =>
    h("option", { value: name, disabled: isDisabled ?? false }, text)));
  select.value = value;
}

/** A line to type in; `onchange(text)` hears of every key. */
export function line(value, onchange, attributes = {}) {
  const input = h("input", { type: "text", value, spellcheck: "false", autocomplete: "off",
                             oninput: () => onchange(input.value), ...attributes });
  return input;
}

/** Several lines to type in. */
export function lines(value, onchange, rows = 2, attributes = {}) {
  const input = h("textarea", { rows, spellcheck: "false", value,
                                oninput: () => onchange(input.value), ...attributes });
  return input;
}

// ---- what was typed ----

/** A number where it is one; else the text, so that the server says what is wrong with it. */
export function numberOf(text) {
  const word = String(text).trim();
  return /^[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$/i.test(word) ? Number(word) : word;
}

const UNITS = { "": 1, b: 1, kb: 1e3, mb: 1e6, gb: 1e9, tb: 1e12,
                kib: 2 ** 10, mib: 2 ** 20, gib: 2 ** 30, tib: 2 ** 40 };

/** Bytes: "444000", "0.5 GB", "300 MiB"; else the text. */
export function bytesOf(text) {
  const found = /^\s*(\d+\.?\d*|\.\d+)\s*([kmgt]?i?b?)\s*$/i.exec(text);
  const unit = found === null ? undefined : UNITS[found[2].toLowerCase()];
  return unit === undefined ? String(text).trim() : Math.round(Number(found[1]) * unit);
}

/** The lines that hold something. */
export function linesOf(text) {
  return String(text).split("\n").map((one) => one.trim()).filter((one) => one !== "");
}

/** Lines of key=value -> [object, the first line that is none, or null]. */
export function labelsOf(text) {
  const labels = {};
  for (const one of linesOf(text)) {
    const at = one.indexOf("=");
    if (at <= 0) return [labels, one];
    Object.defineProperty(labels, one.slice(0, at), { value: one.slice(at + 1), enumerable: true,
                                                      configurable: true, writable: true });
  }
  return [labels, null];
}

/** The other way round. */
export function labelLines(labels) {
  return Object.entries(labels ?? {}).map(([key, value]) => `${key}=${value}`).join("\n");
}
