// SPDX-License-Identifier: Apache-2.0
// Drawings while somebody looks: nothing is drawn far out of view, but all of it on paper.

const NEAR = "300px"; // beyond the edges: so far ahead a drawing is made

/** Calls `enter(isPrinted)` when `node` comes near the view and, with true, before the page is
 *  printed: then the drawing must be whole when it returns. `leave()` is called when the node is
 *  far again. Until `signal` is aborted; none: as long as the page stays. */
export function whileInView(node, { enter, leave, signal = undefined }) {
  let isNear = false;
  const observer = new IntersectionObserver((entries) => {
    const { isIntersecting } = entries.at(-1);
    if (isIntersecting === isNear) return;
    isNear = isIntersecting;
    if (isNear) enter(false);
    else leave();
  }, { rootMargin: NEAR });
  observer.observe(node);
  addEventListener("beforeprint", () => enter(true), { signal });
  addEventListener("afterprint", () => {
    if (!isNear) leave();
  }, { signal });
  signal?.addEventListener("abort", () => observer.disconnect());
}
