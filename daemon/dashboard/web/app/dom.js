// SPDX-License-Identifier: Apache-2.0
// Elements made of texts. Nothing here, and nothing that uses it, reads text as markup.
import { printable, printableLines } from "./text.js";

const SVG = "http://www.w3.org/2000/svg";

function childNode(child, parent) {
  if (child instanceof Node) return child;
  return document.createTextNode(parent.localName === "pre" ? printableLines(child)
                                                            : printable(child));
}

/** Appends nodes and texts; null, undefined and false are left out, lists are flattened. */
export function append(parent, ...children) {
  for (const child of children.flat(Infinity))
    if (child !== null && child !== undefined && child !== false)
      parent.append(childNode(child, parent));
  return parent;
}

function setOne(element, name, value) {
  if (name.startsWith("on")) {
    element.addEventListener(name.slice(2), value);
  } else if (name === "style") {
    for (const [property, text] of Object.entries(value)) element.style.setProperty(property, text);
  } else if (name === "value" || name === "checked" || name === "indeterminate") {
    element[name] = value; // what is typed, not what is there at first
  } else if (value === null || value === undefined || value === false) {
    element.removeAttribute(name);
  } else {
    const text = value === true ? "" : printable(value);
    if (element.getAttribute(name) !== text) element.setAttribute(name, text);
  }
}

/** Sets attributes (`onX`: a listener; `style`: an object); false and null take one away. */
export function set(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) setOne(element, name, value);
  return element;
}

/** h("p", {class: "note"}, "text", node): an element of HTML. */
export function h(tag, attributes, ...children) {
  return append(set(document.createElement(tag), attributes ?? {}), ...children);
}

/** s("rect", {width: 3}): an element of SVG. */
export function s(tag, attributes, ...children) {
  return append(set(document.createElementNS(SVG, tag), attributes ?? {}), ...children);
}

/** Puts these in place of what was there. */
export function fill(parent, ...children) {
  parent.replaceChildren();
  return append(parent, ...children);
}

/** Changes a text only where it differs, so that selections and screen readers stay undisturbed. */
export function say(element, text) {
  const wanted = element.localName === "pre" ? printableLines(text) : printable(text);
  if (element.textContent !== wanted) element.textContent = wanted;
  return element;
}

const rowsOf = new WeakMap(); // parent -> Map(key -> {node, update})

/** Makes the children of `parent` those of `items`, keeping the elements of keys that stay, and so
 *  focus and place. `create(item)` returns {node, update(item)}. */
export function keyed(parent, items, keyOf, create) {
  const before = rowsOf.get(parent) ?? new Map();
  const after = new Map();
  for (const item of items) {
    const key = keyOf(item);
    const row = before.get(key) ?? create(item);
    row.update(item);
    after.set(key, row);
  }
  for (const [key, row] of before) if (!after.has(key)) row.node.remove();
  let place = parent.firstChild;
  for (const { node } of after.values()) {
    if (node === place) place = place.nextSibling;
    else parent.insertBefore(node, place);
  }
  rowsOf.set(parent, after);
}

let lastId = 0;

/** An id that nothing else has. */
export function freshId(prefix) {
  lastId += 1;
  return `${prefix}-${lastId}`;
}
