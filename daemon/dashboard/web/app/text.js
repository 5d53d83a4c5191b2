// SPDX-License-Identifier: Apache-2.0
// Foreign texts as people can see them: what has no shape of its own is shown as \u{...}, by the
// same table as src/base/text.c.

const UNPRINTABLE = new RegExp(
  "[\\u0000-\\u001f\\u007f-\\u009f\\u00ad\\u061c\\u180e\\u200b-\\u200f\\u2028-\\u202e" +
    "\\u2060-\\u206f\\ufeff\\ufff9-\\ufffb\\u{e0000}-\\u{e007f}\\ud800-\\udfff]", "gu");

function escaped(character) {
  return `\\u{${character.codePointAt(0).toString(16)}}`;
}

/** One line of text, safe to show. */
export function printable(text) {
  return String(text).replace(UNPRINTABLE, escaped);
}

/** Text of several lines, which stay lines. */
export function printableLines(text) {
  return String(text).split("\n").map(printable).join("\n");
}

/** At most `most` characters, the rest as an ellipsis; for places that cannot wrap. */
export function shortened(text, most) {
  const characters = [...printable(text)];
  return characters.length <= most ? characters.join("")
                                   : characters.slice(0, most - 1).join("") + "…";
}

/** A word as a POSIX shell takes it, for commands to be copied. */
export function shellWord(text) {
  const word = String(text);
  return /^[A-Za-z0-9_@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}
