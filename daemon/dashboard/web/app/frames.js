// SPDX-License-Identifier: Apache-2.0
// Long work in pieces, so that the page answers between them.

function posted(resolve) {
  const channel = new MessageChannel();
  channel.port1.onmessage = () => {
    channel.port1.close(); // or it would stay for good
    resolve();
  };
  return () => channel.port2.postMessage(null);
}

/** Resolves in a task of its own, after what waits to be drawn or typed. */
export function breath() {
  return new Promise((resolve) => {
    requestAnimationFrame(posted(resolve));
    setTimeout(resolve, 100); // frames stand still while a tab is hidden
  });
}

/** Resolves in a task of its own, without waiting for what is to be drawn. */
export function turn() {
  return new Promise((resolve) => posted(resolve)());
}
