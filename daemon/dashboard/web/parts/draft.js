// SPDX-License-Identifier: Apache-2.0
// What is typed into a form, kept for this tab: it survives reloads and steps back.
import { DRAFT_PREFIX } from "../app/session.js";

/** What was kept under this name over a copy of `initial`. */
export function draftOf(name, initial) {
  const fresh = structuredClone(initial);
  try {
    return { ...fresh, ...JSON.parse(sessionStorage.getItem(DRAFT_PREFIX + name) ?? "{}") };
  } catch {
    return fresh; // another version's, or cut off
  }
}

export function keepDraft(name, draft) {
  try {
    sessionStorage.setItem(DRAFT_PREFIX + name, JSON.stringify(draft));
  } catch {
    // full, or forbidden: the form itself still has it
  }
}

export function dropDraft(name) {
  sessionStorage.removeItem(DRAFT_PREFIX + name);
}

/** A key for one submission, however often it is sent. */
function freshKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** The key of what is sent: kept with the draft under `place`, the same for the same body until
 *  `draft[place]` is taken away. */
export function keyOf(draft, place, body) {
  const text = JSON.stringify(body);
  if (draft[place]?.body !== text) draft[place] = { key: freshKey(), body: text };
  return draft[place].key;
}
