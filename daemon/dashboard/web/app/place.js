// SPDX-License-Identifier: Apache-2.0
// Where the server is.

/** The server as programs reach it: this page's address without "ui/". */
export function serverAddress() {
  return new URL("..", document.baseURI).href.replace(/\/$/, "");
}
