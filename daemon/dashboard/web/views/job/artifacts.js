// SPDX-License-Identifier: Apache-2.0
// What a job leaves: its files, and a command for each way to take them away.
import { h } from "../../app/dom.js";
import { formatBytes, formatMany } from "../../app/format.js";
import { serverAddress } from "../../app/place.js";
import { whoAmI } from "../../app/session.js";
import { shellWord } from "../../app/text.js";
import { copyBox } from "../../parts/copy.js";
import { card } from "../../parts/facts.js";

function hrefOf(artifact) {
  return new URL(`..${artifact.href}`, document.baseURI).href;
}

function fileRow(artifact, isOpen) {
  return h("tr", null,
    h("th", { scope: "row" },
      isOpen ? h("a", { href: hrefOf(artifact), download: "" }, artifact.name) : artifact.name),
    h("td", { class: "number" }, formatBytes(artifact.bytes)),
    h("td", null, h("code", { class: "digest" }, artifact.sha256)));
}

/** The files with their digests. Links work where no token is needed; else commands carry one. */
export function artifactsCard(artifacts) {
  const isOpen = whoAmI()?.authenticated_by !== "token";
  const bytes = artifacts.reduce((sum, artifact) => sum + artifact.bytes, 0);
  return card("Files", true, h("div", { class: "scroll", tabindex: "0", role: "region",
                                        "aria-label": "Files" },
    h("table", { class: "files" },
      h("caption", null, `${formatMany(artifacts.length, "file")}, ${formatBytes(bytes)}`),
      h("thead", null, h("tr", null, h("th", { scope: "col" }, "File"),
        h("th", { scope: "col", class: "number" }, "Size"), h("th", { scope: "col" }, "SHA-256"))),
      h("tbody", null, artifacts.map((artifact) => fileRow(artifact, isOpen))))));
}

function curlCommand(job) {
  const login = whoAmI()?.authenticated_by === "token"
    ? ' -H "Authorization: Bearer $DIDI_TOKEN"' : "";
  const place = `${serverAddress()}/v1/jobs/${job.id}/artifacts/manifest.json`;
  return `curl --fail${login} -O ${shellWord(place)}`;
}

function ways(job) {
  const task = job.specification.tasks[0]?.name ?? "TASK";
  const pull = `didictl --host ${shellWord(serverAddress())} pull ${job.id} out`;
  return [
    ["The package, each file checked", pull],
    ["One file with curl", curlCommand(job)],
    ["Whole models, a directory for each task", `${pull} --format full`],
    ["In transformers", `from transformers import AutoModel\n` +
      `model = AutoModel.from_pretrained("out/models/${task}")`],
    ["Adapters for PEFT, vLLM and SGLang", `${pull} --format peft`],
    ["In PEFT", `from peft import PeftModel\nfrom transformers import AutoModel\n` +
      `base = AutoModel.from_pretrained(${JSON.stringify(job.specification.base ?? "BASE")})\n` +
      `model = PeftModel.from_pretrained(base, "out/adapters/${task}")`],
    ...job.specification.tasks.length < 2 ? [] // nothing to choose
      : [["Directions to choose a task by, where no task id is known; they find about half",
          `${pull} --format router`]],
  ];
}

function wayNode([label, text]) {
  return h("div", null, h("h3", null, label), copyBox(label, text));
}

/** A command for each way out, the usual ones first. */
export function waysCard(job) {
  const [files, one, whole, ...others] = ways(job).map(wayNode);
  return card("Take it away", true, h("div", { class: "ways" }, files, whole),
              h("details", null, h("summary", null, "Other ways"),
                h("div", { class: "ways" }, one, others)));
}
