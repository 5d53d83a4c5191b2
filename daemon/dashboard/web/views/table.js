// SPDX-License-Identifier: Apache-2.0
// Which views there are. A row: the address ("jobs/{job}"), the scope it needs, the section of the
// navigation it belongs to, the section's label where it is the section's first page, and what
// opens it: open({root, parameters, query, signal, title, ready, announce, fail}).
import { openBakeoff } from "./bakeoff.js";
import { openBakeoffs } from "./bakeoffs.js";
import { openCompare } from "./compare.js";
import { openHook } from "./hook.js";
import { openHooks } from "./hooks.js";
import { openJob } from "./job.js";
import { openJobs } from "./jobs.js";
import { openNew } from "./merge/new.js";
import { openModels } from "./models.js";
import { openServer } from "./server.js";
import { openTokens } from "./tokens.js";
import { openWebhook } from "./webhook.js";
import { openWebhooks } from "./webhooks.js";

export const HOME = "#/jobs";

export const views = [
  { pattern: "jobs", scope: "read", section: "jobs", label: "Jobs", open: openJobs },
  { pattern: "jobs/{job}", scope: "read", section: "jobs", open: openJob },
  { pattern: "new", scope: "submit", section: "new", label: "New merge", open: openNew },
  { pattern: "compare", scope: "read", section: "compare", label: "Compare", open: openCompare },
  { pattern: "bakeoffs", scope: "read", section: "bakeoffs", label: "Bake-offs",
    open: openBakeoffs },
  { pattern: "bakeoffs/{bakeoff}", scope: "read", section: "bakeoffs", open: openBakeoff },
  { pattern: "models", scope: "read", section: "models", label: "Models", open: openModels },
  { pattern: "webhooks", scope: "admin", section: "webhooks", label: "Webhooks",
    open: openWebhooks },
  { pattern: "webhooks/{webhook}", scope: "admin", section: "webhooks", open: openWebhook },
  { pattern: "hooks", scope: "admin", section: "hooks", label: "Hooks", open: openHooks },
  { pattern: "hooks/{hook}", scope: "admin", section: "hooks", open: openHook },
  { pattern: "tokens", scope: "admin", section: "tokens", label: "Tokens", open: openTokens },
  { pattern: "server", scope: "read", section: "server", label: "Server", open: openServer },
];
