// SPDX-License-Identifier: Apache-2.0
// Asking again and again: only while somebody looks, more rarely while the server is away.
import { Away, Problem, connection, passes, send } from "./api.js";

const AWAY_SECONDS = [1, 2, 4, 8, 15]; // between tries; the last for all that follow

/** Resolves after so long, at once when the signal is aborted or somebody wants a retry. */
export function pause(milliseconds, signal, early = null) {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      connection.retry.removeEventListener("now", done);
      early?.removeEventListener("now", done);
      resolve();
    };
    const timer = setTimeout(done, milliseconds);
    signal.addEventListener("abort", done);
    connection.retry.addEventListener("now", done);
    early?.addEventListener("now", done);
  });
}

/** Resolves when the page is seen, or the signal is aborted. */
export function untilVisible(signal) {
  if (!document.hidden || signal.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    const look = () => {
      if (document.hidden && !signal.aborted) return;
      document.removeEventListener("visibilitychange", look);
      signal.removeEventListener("abort", look);
      resolve();
    };
    document.addEventListener("visibilitychange", look);
    signal.addEventListener("abort", look);
  });
}

/** How long to wait after so many failures in a row. */
export function awayMilliseconds(failures) {
  return 1000 * AWAY_SECONDS[Math.min(failures, AWAY_SECONDS.length) - 1];
}

/** Shows what a path answers, now and whenever it is another answer. `seconds` (a number, or a
 *  function of the value) is the time between; null ends it. `show(value)`, `fail(problem)`: the
 *  second is called when the server refuses. What passes is asked again; any other refusal ends it
 *  unless `fail` returns true. After a refusal `show` is called whatever the answer is.
 *  Returns {again(), hold()}: the first asks at once; the second keeps it from asking until the
 *  function is called that it returns. */
export function watch(path, { query, signal, seconds, show, fail }) {
  const early = new EventTarget();
  const state = { etag: null, text: null, value: null, failures: 0, wanted: false,
                  held: null };

  async function once() {
    const headers = state.etag === null ? {} : { "If-None-Match": state.etag };
    const response = await send("GET", path, { query, signal, headers });
    if (response.status !== 304) {
      const text = await response.text();
      state.etag = response.headers.get("ETag");
      if (text !== state.text) {
        state.text = text;
        state.value = JSON.parse(text);
        show(state.value);
      }
    }
    state.failures = 0;
  }

  function wait() {
    if (state.failures > 0) return awayMilliseconds(state.failures);
    const chosen = typeof seconds === "function" ? seconds(state.value) : seconds;
    return chosen === null ? null : chosen * 1000;
  }

  async function run() {
    for (;;) {
      await state.held;
      if (signal.aborted) return;
      state.wanted = false;
      try {
        await once();
      } catch (error) {
        if (signal.aborted) return;
        if (error instanceof Problem) {
          Object.assign(state, { etag: null, text: null }); // what was shown may be gone
          const goesOn = fail?.(error) === true;
          if (!goesOn && !passes(error)) return;
        } else if (!(error instanceof Away) && !(error instanceof TypeError)) {
          throw error;
        }
        state.failures += 1;
      }
      const milliseconds = wait();
      if (milliseconds === null) {
        await pause(2 ** 31 - 1, signal, early);
      } else if (!state.wanted) {
        await pause(milliseconds, signal, early);
      }
      await untilVisible(signal);
      if (signal.aborted) return;
    }
  }

  run();
  return {
    again() {
      state.wanted = true;
      early.dispatchEvent(new Event("now"));
    },
    hold() {
      let release;
      state.held = new Promise((resolve) => { release = resolve; });
      return release;
    },
  };
}
