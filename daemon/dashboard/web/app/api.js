// SPDX-License-Identifier: Apache-2.0
// Asking the server: JSON both ways, the token in a header, problems as errors. Whether the server
// answers at all is kept here for the page to show.
import { renewed, token } from "./session.js";

const PATIENCE_MS = 30000; // for an answer to begin; waiting requests add what they wait for
const PREFIX = "urn:didid:problem:";

/** The server refused: what RFC 9457 says of it. */
export class Problem extends Error {
  constructor(status, document) {
    super(document.detail ?? document.title ?? `the server answered ${status}`);
    this.status = status;
    this.kind = String(document.type ?? "").replace(PREFIX, "");
    this.title = document.title ?? `The server answered ${status}`;
    this.detail = document.detail ?? null;
    this.pointer = document.pointer ?? null;
    this.parameter = document.parameter ?? null;
    this.subject = document.subject ?? null;
    this.requestId = document.request_id ?? null;
  }
}

/** Whether a refusal passes by itself: asked again later, the server may well answer. */
export function passes(problem) {
  return problem.status >= 500 || problem.status === 429;
}

/** Nothing came back. `isAsking`: nothing was to be changed either. */
export class Away extends Error {
  constructor(message, isAsking = true) {
    super(message);
    this.isAsking = isAsking;
  }
}

/** When the server stopped to answer, or null; listeners hear of changes. */
export const connection = {
  awaySince: null,
  answeredAt: null,
  listeners: new Set(),
  /** Resolved by `retryNow`, for those who wait before they try again. */
  retry: new EventTarget(),
};

function note(answers) {
  const before = connection.awaySince;
  if (answers) {
    connection.awaySince = null;
    connection.answeredAt = Date.now();
  } else {
    connection.awaySince ??= Date.now();
  }
  if (before !== connection.awaySince) for (const listener of connection.listeners) listener();
}

export function retryNow() {
  connection.retry.dispatchEvent(new Event("now"));
}

/** The address of a path of the interface, relative to this page: a prefix of a proxy stays.
 *  url("jobs", {limit: 50}). Parts of the path are to be escaped by `segment`. */
export function url(path, query = {}) {
  const address = new URL(`../v1/${path}`, document.baseURI);
  for (const [name, value] of Object.entries(query))
    if (value !== null && value !== undefined && value !== "")
      address.searchParams.set(name, String(value));
  return address.href;
}

/** A name as one segment of a path. */
export const segment = encodeURIComponent;

/** A name with slashes as several: models. */
export function segments(name) {
  return String(name).split("/").map(encodeURIComponent).join("/");
}

async function problemOf(response) {
  let document = {};
  try {
    document = await response.json();
  } catch {
    // a proxy's page, say: the status tells what there is to tell
  }
  return new Problem(response.status, document !== null && typeof document === "object"
    ? document : {});
}

/** The response itself, successful or 304; for streams and files. Throws Problem, Away, or the
 *  signal's reason. `as` replaces the token of the session. Where that is refused, who looks is
 *  asked for another one and the request is sent again; with `as` or `once` it is a Problem. */
export async function send(method, path, options = {}) {
  const { query, body, headers = {}, signal, patienceMs = PATIENCE_MS, as, once = false } = options;
  const late = new AbortController();
  const timer = setTimeout(() => late.abort(), patienceMs);
  const bearer = as ?? token();
  const all = { ...headers };
  if (bearer !== null) all.Authorization = `Bearer ${bearer}`;
  if (body !== undefined) all["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(url(path, query), {
      method, headers: all, body: body === undefined ? undefined : JSON.stringify(body),
      signal: signal ? AbortSignal.any([signal, late.signal]) : late.signal,
      cache: "no-store", credentials: "omit", redirect: "error", referrerPolicy: "no-referrer",
    });
  } catch (error) {
    signal?.throwIfAborted();
    note(false);
    throw new Away(late.signal.aborted ? "the server took too long" : String(error.message),
                   method === "GET");
  } finally {
    clearTimeout(timer);
  }
  note(true);
  if (response.ok || response.status === 304) return response;
  const problem = await problemOf(response);
  if (response.status !== 401 || as !== undefined || once) throw problem;
  if (token() === bearer && !await renewed(problem)) throw problem;
  signal?.throwIfAborted();
  return send(method, path, options);
}

/** What was answered, as JSON; null where there is no body. */
export async function ask(method, path, options) {
  const response = await send(method, path, options);
  if (response.status === 204 || response.status === 304) return null;
  try {
    return await response.json();
  } catch (error) {
    options?.signal?.throwIfAborted();
    note(false);
    throw new Away(`the answer broke off: ${error.message}`, method === "GET");
  }
}

export const get = (path, options) => ask("GET", path, options);
export const post = (path, body, options) => ask("POST", path, { ...options, body });
export const put = (path, body, options) => ask("PUT", path, { ...options, body });
export const remove = (path, options) => ask("DELETE", path, options);

/** All pages of a list, at most `most` rows. */
export async function getAll(path, options = {}, most = 10000) {
  const rows = [];
  let after = null;
  do {
    const page = await get(path, { ...options, query: { ...options.query, limit: 200, after } });
    rows.push(...page.data);
    after = page.has_more ? page.next : null;
  } while (after !== null && rows.length < most);
  return rows;
}
