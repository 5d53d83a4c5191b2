// SPDX-License-Identifier: Apache-2.0
// JSON as it is typed: what is wrong with it and where, and where in it a JSON pointer points to.

/** Where values begin and end in a JSON text that is well-formed: pointer -> [begin, end]. */
function places(text) {
  const found = new Map();
  let at = 0;
  const blank = () => { while (" \t\r\n".includes(text[at] ?? "x")) at += 1; };
  const string = () => {
    const begin = at;
    at += 1;
    while (text[at] !== '"') at += text[at] === "\\" ? 2 : 1;
    at += 1;
    return JSON.parse(text.slice(begin, at));
  };

  function value(pointer) {
    blank();
    const begin = at;
    const first = text[at];
    if (first === "{" || first === "[") members(pointer, first === "{" ? "}" : "]");
    else if (first === '"') string();
    else while (!" \t\r\n,]}".includes(text[at] ?? ",")) at += 1;
    found.set(pointer, [begin, at]);
    blank();
  }

  function members(pointer, last) {
    at += 1;
    blank();
    for (let i = 0; text[at] !== last; i += 1) {
      if (i > 0) at += 1; // the comma
      blank();
      let key = String(i);
      if (last === "}") {
        key = string();
        blank();
        at += 1; // the colon
      }
      value(`${pointer}/${key.replaceAll("~", "~0").replaceAll("/", "~1")}`);
    }
    at += 1;
  }

  value("");
  return found;
}

/** The line, from 1, of a place in a text. */
const lineAt = (text, place) => text.slice(0, place).split("\n").length;

/** {value}, or {detail, line, range}: why it is no JSON. */
export function readJson(text) {
  try {
    return { value: JSON.parse(text) };
  } catch (error) {
    const found = /position (\d+)/.exec(error.message);
    const place = found === null ? text.length : Number(found[1]);
    return { detail: `This is no JSON: ${error.message}.`, line: lineAt(text, place),
             range: [place, Math.min(text.length, place + 1)] };
  }
}

/** The place of what a pointer names, or of the nearest that holds it: {line, range}. */
export function placeOf(text, pointer) {
  const all = places(text);
  let nearest = pointer;
  while (!all.has(nearest)) nearest = nearest.slice(0, nearest.lastIndexOf("/"));
  const range = all.get(nearest);
  return { line: lineAt(text, range[0]), range };
}
