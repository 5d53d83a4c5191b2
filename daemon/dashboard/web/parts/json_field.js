// SPDX-License-Identifier: Apache-2.0
// A field for JSON: problems are told with their line, and what they are about is selected.
import { field, lines } from "./fields.js";
import { placeOf, readJson } from "./json_text.js";
import { clearField, showAtField } from "./notice.js";

/** {node, input, read(), tell(problem, prefix)}. `read()` gives the value, or undefined after
 *  saying what is wrong. `tell` shows a problem at its place if its pointer lies below `prefix`. */
export function jsonField({ label, text, changed = () => {}, rows = 12, hint = null }) {
  const input = lines(text, (typed) => {
    clearField(input);
    changed(typed);
  }, rows, { class: "code" });
  const fields = new Map([["", input]]);

  function show(detail, { line, range }, kind) {
    showAtField({ pointer: "", detail: `Line ${line}: ${detail}`, kind }, fields);
    input.setSelectionRange(...range);
    const height = parseFloat(getComputedStyle(input).lineHeight) || 20;
    input.scrollTop = Math.max(0, (line - 4) * height);
  }

  return {
    input,
    node: field(label, input, { hint }),
    read() {
      clearField(input);
      const found = readJson(input.value);
      if (found.detail === undefined) return found.value;
      show(found.detail, found);
      return undefined;
    },
    tell(problem, prefix = "") {
      const { pointer } = problem;
      if (typeof pointer !== "string"
          || !(pointer === prefix || pointer.startsWith(`${prefix}/`))) return false;
      show(`${pointer}: ${problem.detail ?? problem.title}`,
           placeOf(input.value, pointer.slice(prefix.length)),
           problem.kind);
      return true;
    },
  };
}
