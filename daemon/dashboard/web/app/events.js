// SPDX-License-Identifier: Apache-2.0
// The events of a job as they come: pages for what has been, then a stream of server-sent events,
// read by fetch since an EventSource cannot send a token. Where streams do not get through, long
// polls take their place.
import { Away, Problem, get, passes, segment, send } from "./api.js";
import { awayMilliseconds, pause, untilVisible } from "./poll.js";

const PAGE = 1000;
const WAIT_SECONDS = 20;
const STREAM_FAILURES = 3; // in a row without one event: long polls from then on
const QUIET_MS = 60000; // a comment comes every 15 seconds: after this the stream is dead

/** Cuts a text of server-sent events into {id, event, data}; returns [events, rest]. */
export function cutEvents(text) {
  const blocks = text.replaceAll("\r\n", "\n").split("\n\n");
  const rest = blocks.pop();
  const events = [];
  for (const block of blocks) {
    const found = { id: null, event: "message", data: [] };
    for (const line of block.split("\n")) {
      const at = line.indexOf(":");
      if (at === 0) continue; // a comment
      const name = at < 0 ? line : line.slice(0, at);
      const value = at < 0 ? "" : line.slice(at + 1).replace(/^ /, "");
      if (name === "data") found.data.push(value);
      else if (name === "id") found.id = value;
      else if (name === "event") found.event = value;
    }
    if (found.data.length > 0) events.push({ ...found, data: found.data.join("\n") });
  }
  return [events, rest];
}

/** Calls `show(events)` with batches in order, `end(state)` when no more will come. Pauses while
 *  the page is hidden. `fail(problem)` when the server refuses. `after`: the number of the last
 *  event that is known. */
export function followJob(job, { signal, after = 0, show, end, fail }) {
  const state = { after, failures: 0, ended: false };
  const path = `jobs/${segment(job)}/events`;

  function take(events) {
    const fresh = events.filter((event) => event.number > state.after);
    if (fresh.length === 0) return;
    state.after = fresh.at(-1).number;
    state.failures = 0;
    show(fresh);
  }

  function finish(word) {
    state.ended = true;
    end(word);
  }

  /** One page; true when there may be another at once. */
  async function page(wait) {
    const query = { after: state.after, limit: PAGE, wait: wait > 0 ? wait : null, stream: 0 };
    const found = await get(path, { query, signal, patienceMs: 30000 + wait * 1000 });
    take(found.data);
    state.failures = 0;
    const finished = !["queued", "running"].includes(found.state);
    if (!found.has_more && finished && found.data.length === 0) finish(found.state);
    return found.has_more || finished;
  }

  function takeBlock({ id, event, data }) {
    const value = JSON.parse(data);
    if (event === "end") {
      finish(value.state);
      return [];
    }
    return id === null ? [] : [value];
  }

  async function stream() {
    const looking = new AbortController();
    const hide = () => document.hidden && looking.abort();
    const quiet = { timer: null };
    const alive = () => {
      clearTimeout(quiet.timer);
      quiet.timer = setTimeout(() => looking.abort(), QUIET_MS);
    };
    document.addEventListener("visibilitychange", hide);
    try {
      const response = await send("GET", path, {
        headers: { Accept: "text/event-stream", "Last-Event-ID": String(state.after) },
        query: { stream: 1 }, signal: AbortSignal.any([signal, looking.signal]),
      });
      if (response.status === 204) return finish(null);
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      let text = "";
      alive();
      for (;;) {
        const { value, done } = await reader.read();
        if (done) throw new Away("the stream ended");
        alive();
        const [blocks, rest] = cutEvents(text + value);
        text = rest;
        take(blocks.flatMap(takeBlock));
        if (state.ended) return undefined;
      }
    } catch (error) {
      if (looking.signal.aborted) return undefined; // nobody looks, or it was silent: once more
      throw error;
    } finally {
      clearTimeout(quiet.timer);
      document.removeEventListener("visibilitychange", hide);
      looking.abort();
    }
  }

  async function run() {
    let caughtUp = false;
    let streamFailures = 0;
    while (!state.ended && !signal.aborted) {
      await untilVisible(signal);
      const before = state.after;
      try {
        if (!caughtUp) caughtUp = !(await page(0));
        else if (streamFailures < STREAM_FAILURES) await stream();
        else await page(WAIT_SECONDS);
        if (state.after > before) streamFailures = 0;
      } catch (error) {
        if (signal.aborted) return;
        if (error instanceof Problem && !passes(error)) {
          fail?.(error);
          return;
        }
        if (caughtUp && state.after === before) streamFailures += 1;
        state.failures += 1;
        await pause(awayMilliseconds(state.failures), signal);
      }
    }
  }

  run();
}
