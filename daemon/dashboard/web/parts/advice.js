// SPDX-License-Identifier: Apache-2.0
// What to do about what went wrong, by the kind of problem. What is wrong and where, the server
// itself says.

const ADVICE = {
  "unauthenticated": "Sign in with a token that is neither expired nor revoked.",
  "forbidden": "Sign in with a token of a higher scope, or ask an administrator for one.",
  "too-many-attempts": "Wait a minute before you try another token.",
  "missing-model":
    "Pick a model from the list. One just copied to the server appears after a rescan (Models).",
  "unknown-model": "It may have been removed or renamed: see Models.",
  "unknown-job": "It may have been deleted: see Jobs.",
  "not-reusable":
    "What that job kept is gone, or is of other models: start a new merge of them instead.",
  "malformed-file": "Copy or fetch the model again: its file is damaged or cut short.",
  "models-differ":
    "Pick fine-tunes that fit the base, or leave the tensors that differ out (Advanced).",
  "budget-unreachable": "Choose a larger size, or keep fewer tensors whole (Advanced).",
  "memory-limit": "Merge fewer tasks at once, or raise memory_limit in the server's settings.",
  "queue-full": "Wait until a job has ended, or cancel one.",
  "disk-full": "Delete jobs that are no longer needed, or free space on the server.",
  "io-error": "Look at the server's disk and log.",
  "out-of-memory": "Try again when other jobs have ended.",
  "unavailable": "The server is starting or stopping: try again in a moment.",
  "too-many-requests": "Wait a moment, then try again.",
  "too-many-connections": "Close other pages of this server, then try again.",
  "wrong-host": "Open this page by a name that the server's settings know (http_hosts).",
  "cross-origin": "Open this page at the server's own address.",
  "idempotency-key-reused": "Reload the page and submit again.",
  "input-changed": "A model was changed meanwhile: submit the merge again.",
  "upload-limit": "Commit or delete open uploads first.",
  "internal-error": "The server's log says more under this request's id.",
};

/** A sentence, or null. */
export function adviceFor(kind) {
  return ADVICE[kind] ?? null;
}
