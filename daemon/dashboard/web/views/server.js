// SPDX-License-Identifier: Apache-2.0
// The server: how it does, what it is, and for administrators what is wrong with it.
import { get } from "../app/api.js";
import { append, fill, h, keyed, say, set } from "../app/dom.js";
import { formatBytes, formatDuration, formatMany, formatNumber,
         formatPercent } from "../app/format.js";
import { serverAddress } from "../app/place.js";
import { watch } from "../app/poll.js";
import { link } from "../app/router.js";
import { may, whoAmI } from "../app/session.js";
import { card, facts } from "../parts/facts.js";
import { showProblem } from "../parts/notice.js";
import { actionButton, listTable, momentOf } from "../parts/rows.js";
import { stateMark } from "../parts/state.js";

const SECONDS = 5;

/** A part of something as a bar with its numbers. */
function meterOf(label, used, total, format) {
  const bar = h("meter", { min: "0", max: String(total), "aria-label": label });
  bar.value = used;
  return h("div", { class: "meter" }, h("span", null, label), bar,
           h("span", { class: "quiet" }, `${format(used)} of ${format(total)}`));
}

function runningRow(first) {
  const rest = h("span");
  const node = h("li", null, h("a", { href: link("jobs", first.id) }, first.name || first.id),
                 rest);
  return { node, update({ stage, progress, eta_seconds: eta }) {
    const left = eta === null ? "" : `, ${formatDuration(eta)} left`;
    say(rest, `: ${stage}, ${formatPercent(progress)}${left}`);
  } };
}

function workNow({ workers, memory, disk, jobs }) {
  return [
    meterOf("Threads at work", workers.busy, workers.total, String),
    meterOf("Memory for merges", memory.used_bytes, memory.limit_bytes, formatBytes),
    meterOf("Disk", disk.size_bytes - disk.free_bytes, disk.size_bytes, formatBytes),
    facts([...Object.entries(jobs).map(([state, count]) => [`Jobs ${state}`, String(count)]),
           ["Memory of the process", formatBytes(memory.resident_bytes)],
           ["Database", formatBytes(disk.database_bytes)]]),
  ];
}

function warningsOf({ ready, warnings }) {
  return [ready ? null
          : h("div", { class: "notice bad" }, h("strong", null, "The server takes no jobs now.")),
          warnings.length === 0 ? null : h("div", { class: "notice" },
            h("strong", null, "What an administrator should look at"),
            h("ul", null, warnings.map((text) => h("li", null, text))))];
}

function aboutOf({ version, api, blas, sqlite, limits }) {
  return facts([["Version", version], ["Interface", `${api} at ${serverAddress()}/v1`],
    ["BLAS", `${blas.library} ${blas.version}, ${blas.kernel}, ${blas.flavour}`],
    ["SQLite", sqlite],
    ["Tasks of a job, at most", String(limits.tasks)],
    ["Jobs at once", String(limits.running_jobs)],
    ["Jobs that may wait", String(limits.queued_jobs)], ["Threads", String(limits.workers)],
    ["Memory limit", formatBytes(limits.memory_bytes)]]);
}

const DONE = { token: "a token", socket: "a Unix socket",
               local: "being on the server's machine: there are no tokens" };

function meOf(identity) {
  return facts([["Known by", DONE[identity.authenticated_by] ?? identity.authenticated_by],
    ["Name", identity.name], ["Scope", identity.scope],
    ["Until", identity.expires_at === null ? null : momentOf(identity.expires_at)]]);
}

function rateText(rates, uptime) {
  return facts([["Up for", formatDuration(uptime)],
    ["Requests", `${formatNumber(rates.requests_per_second)} a second`],
    ["Jobs", `${formatNumber(rates.jobs_per_hour)} an hour`],
    ["Processor cores", formatNumber(rates.cpu_cores)]]);
}

const FINDING = { ok: "succeeded", warning: "running", error: "failed" };

function findingRow({ check, state, detail }) {
  const mark = stateMark();
  mark.update(state);
  mark.node.dataset.state = FINDING[state] ?? state;
  return h("tr", null, h("td", null, mark.node), h("th", { scope: "row" }, check),
           h("td", null, detail));
}

function doctorCard(context) {
  const { signal } = context;
  const place = h("div", { role: "status" });
  const { node: table, body } = listTable("Findings", ["State", "Check", "Finding"]);

  function showFindings({ findings, more }, note) {
    fill(body, findings.map(findingRow));
    fill(place, h("p", null, note), findings.length > 0 ? table : null,
         more > 0 ? h("p", { class: "quiet" }, `${formatMany(more, "finding")} left out.`) : null);
  }

  const look = actionButton("Look for trouble", async () => {
    const found = await get("doctor", { signal, patienceMs: 120000 });
    const bad = found.findings.filter(({ state }) => state !== "ok").length;
    showFindings(found, bad === 0 ? "All is well." : `${formatMany(bad, "finding")} to look at.`);
  });
  const files = actionButton("Compare all files of jobs with their digests", async () => {
    const all = { findings: [], more: 0, jobs: 0, bytes: 0 };
    for (let after = null, isFirst = true; isFirst || after !== null; isFirst = false) {
      const page = await get("doctor/jobs", { query: { after }, signal, patienceMs: 600000 });
      all.findings.push(...page.findings);
      for (const key of ["more", "jobs", "bytes"]) all[key] += page[key];
      after = page.next;
      showFindings(all,
                   `${formatMany(all.jobs, "job")} looked at, ${formatBytes(all.bytes)} read.`);
    }
  });
  return card("Health", true, h("div", { class: "row" }, look.button, files.button), look.notice,
              files.notice, place);
}

export function openServer(context) {
  context.title("Server");
  const notice = h("div");
  const warnings = h("div");
  const now = h("div");
  const running = h("ul", { class: "running", "aria-label": "Running jobs" });
  const rates = h("div");
  const about = h("div", null, h("p", { class: "quiet" }, "Loading …"));
  append(context.root, h("h1", { tabindex: "-1" }, "Server"), notice, warnings,
    h("div", { class: "cards" }, card("Now", false, now, running),
      card("Since the start", false, rates),
      card("What it is", false, about), card("You", false, meOf(whoAmI())),
      may("admin") ? doctorCard(context) : null));
  watch("status", {
    signal: context.signal, seconds: SECONDS,
    show(status) {
      fill(notice);
      fill(warnings, warningsOf(status));
      fill(now, workNow(status));
      keyed(running, status.running, ({ id }) => id, runningRow);
      set(running, { hidden: status.running.length === 0 });
      fill(rates, rateText(status.rates, status.uptime_seconds));
      context.ready();
    },
    fail(problem) {
      fill(notice, showProblem(problem));
    },
  });
  watch("version", { signal: context.signal, seconds: null, fail: () => false,
                     show: (version) => fill(about, aboutOf(version)) });
}
