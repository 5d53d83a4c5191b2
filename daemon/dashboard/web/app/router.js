// SPDX-License-Identifier: Apache-2.0
// Addresses within the page: "#/jobs/ID?tab=log". They survive reload, back and links sent to
// others; what stands behind the # is not sent to the server.

/** "#/a/b?c=d" -> {path: ["a", "b"], query: URLSearchParams} */
export function parse(hash) {
  const [path, query = ""] = hash.replace(/^#/, "").split(/\?(.*)/s);
  const parts = [];
  for (const part of path.split("/").filter((text) => text !== "")) {
    try {
      parts.push(decodeURIComponent(part));
    } catch {
      return { path: ["?"], query: new URLSearchParams() }; // no view is called so
    }
  }
  return { path: parts, query: new URLSearchParams(query) };
}

/** link("jobs", id, {tab: "log"}) -> "#/jobs/ID?tab=log" */
export function link(...parts) {
  const last = parts.at(-1);
  const query = typeof last === "object" ? parts.pop() : {};
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(query))
    for (const one of [value].flat())
      if (one !== null && one !== undefined && one !== "") search.append(name, one);
  const text = search.toString();
  return `#/${parts.map(encodeURIComponent).join("/")}${text === "" ? "" : `?${text}`}`;
}

/** The first row of `views` whose pattern ("jobs/{job}") fits, with its parameters; or null. */
export function match(views, path) {
  for (const view of views) {
    const pattern = view.pattern.split("/").filter((text) => text !== "");
    const parameters = {};
    const fits = pattern.length === path.length && pattern.every((part, i) => {
      if (!part.startsWith("{")) return part === path[i];
      parameters[part.slice(1, -1)] = path[i];
      return true;
    });
    if (fits) return { view, parameters };
  }
  return null;
}

/** Goes to an address made by `link`. */
export function go(hash) {
  location.hash = hash;
}

/** The same place with another query, without a step of the browser's history. */
export function replaceQuery(query) {
  const { path } = parse(location.hash);
  history.replaceState(history.state, "", link(...path, query));
}
