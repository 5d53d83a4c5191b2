// SPDX-License-Identifier: Apache-2.0
// Who looks: a token, kept for this tab alone, and what the server says of it.

const KEY = "didid-token";
export const DRAFT_PREFIX = "didid-draft-"; // of what is kept of forms
let asker = async () => false;
let asking = null; // of `asker`, until it is answered
let identity = null; // of /v1/whoami; null: not known

/** The token, or null. */
export function token() {
  return sessionStorage.getItem(KEY);
}

export function keepToken(text) {
  sessionStorage.setItem(KEY, text);
}

/** Forgets the token, and what was typed into forms by who had it. */
export function forgetToken() {
  for (const key of Object.keys(sessionStorage))
    if (key === KEY || key.startsWith(DRAFT_PREFIX)) sessionStorage.removeItem(key);
  identity = null;
}

export function setIdentity(found) {
  identity = found;
}

/** {authenticated_by, id, name, scope, expires_at}, or null. */
export function whoAmI() {
  return identity;
}

const ORDER = ["read", "submit", "admin"];

/** Whether who looks may do what needs this scope. */
export function may(scope) {
  return identity !== null && ORDER.indexOf(identity.scope) >= ORDER.indexOf(scope);
}

/** Calls `listener(problem)` when the server refuses the token, or wants one. It promises true when
 *  another token is kept, false when who looked gives up. */
export function onRefused(listener) {
  asker = listener;
}

let learner = async () => {};

/** Calls `listener()` when another token was kept by a view. It promises that the identity is the
 *  token's, and the page shows it. */
export function onAdopted(listener) {
  learner = listener;
}

/** Said by a view once it kept a token. */
export function adopted() {
  return learner();
}

/** Said by app/api.js. Who waits is asked once, however many requests were refused. */
export function renewed(problem) {
  asking ??= asker(problem).finally(() => { asking = null; });
  return asking;
}
