// SPDX-License-Identifier: Apache-2.0
// A new merge: a base and its fine-tunes, how large the result may be, and what it takes. Also the
// same models at another size, from what a job kept (?from=JOB), or as a job had them (?like=JOB).
import { Problem, get, getAll, post, segment } from "../../app/api.js";
import { append, fill, h, say, set } from "../../app/dom.js";
import { formatPercent } from "../../app/format.js";
import { link } from "../../app/router.js";
import { draftOf, keepDraft, keyOf } from "../../parts/draft.js";
import { facts } from "../../parts/facts.js";
import { field, setOptions } from "../../parts/fields.js";
import { showNothing, showProblem } from "../../parts/notice.js";
import { stateMark } from "../../parts/state.js";
import { bakeoffButton } from "./bakeoff.js";
import { openExtend } from "./extend.js";
import { jobForm } from "./form.js";
import { optionsForm, peopleForm } from "./options.js";
import { sizePicker } from "./size.js";
import { EMPTY, draftFrom, lackOf, lackOfSize, modelBytesOf, modelText, proposedName, sizeOf,
         specificationOf, surveySpecification, surveyText } from "./specification.js";
import { startSurvey, watchSurvey } from "./survey.js";
import { taskPicker } from "./tasks.js";

const SIZE_HELP = "One model is what a single model takes at 16 bits a number. A larger result " +
  "loses less of what each fine-tune changed: the error is the share that is lost.";

const isBase = (model) => model.kind === "checkpoint" && model.state === "ready";

/** The only model that calls itself a base; null where none or several do. */
function guessBase(models) {
  const named = models.filter((model) => isBase(model) &&
    /(^|[-_.])(base|pretrained)([-_.]|$)/i.test(model.name.split("@")[0].split("/").at(-1)));
  return named.length === 1 ? named[0].name : null;
}

// ---- base ----

function basePicker({ draft, changed }) {
  const select = h("select", { id: "base", onchange: () => {
    draft.base = select.value;
    draft.tasks = draft.tasks.filter(({ model }) => model !== draft.base);
    say(guess, "");
    changed();
  } });
  const guess = h("p", { class: "hint quiet" });
  const fields = new Map();
  const node = h("div", null,
                 field("Base", select, { hint: "The model that the fine-tunes were tuned from.",
                                                      fields, pointer: "/base" }), guess);
  return {
    node,
    fields: () => fields,
    show(models) {
      const bases = models.filter(isBase);
      if (draft.base === null) {
        draft.base = guessBase(models) ?? "";
        if (draft.base !== "") say(guess,
                                   "Taken since its name says so; pick another one if it is not.");
      }
      const gone = draft.base !== "" && !bases.some(({ name }) => name === draft.base);
      setOptions(select, [["", "Pick a base"], ...bases.map(({ name }) => [name, name]),
                          ...gone ? [[draft.base, `${draft.base} (not there)`]] : []], draft.base);
    },
  };
}

// ---- the curve, by a survey ----

/** What stands below the sizes: a button, a survey's progress, or the curve. `known`: the frontier
 *  of a job that is started from, or null. */
function curveArea({ context, draft, size, methodOf, changed, keep, known }) {
  const state = { frontier: known, parameters: null, job: null, watched: null, drawn: null,
                  stop: null };
  const node = h("div", { class: "curve-area" });
  const mark = stateMark();
  const bar = h("progress", { max: "1", "aria-label": "Progress of the measurement" });
  const notice = h("div");

  const textNow = () => surveyText(draft, methodOf());
  const isOfNow = () => draft.survey !== null && draft.survey.of === textNow();
  /** The job to start from: measured of just these models. */
  const source = () => isOfNow() && state.job?.state === "succeeded" && state.job.reusable
    ? draft.survey.job : null;

  async function measure(event) {
    set(event.currentTarget, { disabled: true });
    fill(notice);
    const of = textNow();
    try {
      const wanted = surveySpecification(draft, methodOf());
      const key = keyOf(draft, "measuring", wanted);
      keep(); // the key with it
      const job = await startSurvey(wanted, key, context.signal);
      draft.measuring = null; // what is measured again is another job
      draft.survey = { job, of };
      context.announce("Measuring the models");
      changed();
    } catch (error) {
      if (context.signal.aborted) return;
      fill(notice, showProblem(error));
      draw();
    }
  }

  function measureButton(verb) {
    return h("button", { type: "button", onclick: measure }, verb);
  }

  function watchNow() {
    if (state.watched === draft.survey.job) return;
    state.stop?.abort();
    state.stop = new AbortController();
    Object.assign(state, { watched: draft.survey.job, frontier: null, job: null, drawn: null });
    watchSurvey(draft.survey.job, {
      signal: AbortSignal.any([context.signal, state.stop.signal]),
      show(job, frontier) {
        const before = source();
        if (frontier !== null && state.frontier === null) context.announce("The curve is there");
        Object.assign(state, { job, frontier });
        draw();
        if (source() !== before) changed();
      },
      fail(problem) {
        draft.survey = null;
        changed();
        if (problem.kind !== "unknown-job") fill(notice, showProblem(problem));
      },
    });
  }

  function progressNodes() {
    const { job } = state;
    mark.update(job?.state ?? "queued", job?.stage ?? "");
    bar.value = job?.progress ?? 0;
    return [h("div", { class: "row" }, mark.node,
              h("span", { class: "quiet" }, formatPercent(job?.progress ?? 0)),
              h("a", { href: link("jobs", draft.survey.job) }, "The measuring job"),
              h("button", { type: "button", class: "plain", onclick: cancel }, "Cancel")), bar];
  }

  async function cancel() {
    try {
      await post(`jobs/${segment(draft.survey.job)}/cancel`, undefined, { signal: context.signal });
    } catch (error) {
      if (error instanceof Problem) fill(notice, showProblem(error)); // ended meanwhile, say
    }
  }

  function drawFrontier() {
    const key = `${draft.dtype}|${state.parameters}`;
    if (state.drawn === key && size.hasCurve()) return;
    state.drawn = key;
    size.drawCurve(state.frontier, draft.dtype === "" ? "auto" : draft.dtype,
                   state.parameters === null ? NaN : state.parameters * 2);
  }

  function explain(method) {
    if (lackOf(draft) !== null) return h("p", { class: "quiet" },
                                         "Pick a base and fine-tunes first.");
    if (!method?.surveys)
      return h("p", { class: "quiet" },
               "What error to expect of which size is not known for this method.");
    return [h("p", { class: "quiet" }, draft.survey === null
      ? "What error to expect of which size can be measured before anything is made. The merge " +
        "then starts from what was measured."
      : "What was measured is of other models or options."),
      measureButton(draft.survey === null ? "Measure the curve first" : "Measure again")];
  }

  function draw() {
    if (known === null && isOfNow()) watchNow();
    const isKnown = state.frontier !== null && (known !== null || isOfNow());
    if (isKnown) {
      fill(node, notice);
      drawFrontier();
      return;
    }
    if (size.hasCurve()) size.dropCurve();
    const { job } = state;
    if (isOfNow() && ["failed", "cancelled"].includes(job?.state))
      fill(node, job.error === null ? h("p", { class: "quiet" }, "The measurement was cancelled.")
        : h("div", { class: "notice bad" }, h("strong", null, job.error.title),
            h("p", null, job.error.detail)),
           measureButton("Measure again"), notice);
    else fill(node, isOfNow() ? progressNodes() : explain(methodOf()), notice);
  }

  return { node, draw, source, setParameters(count) {
    state.parameters = count;
    if (state.frontier !== null) draw();
  } };
}

// ---- the form ----

function modelsSection({ context, name, draft, methodOf, changed }) {
  const base = basePicker({ draft, changed: () => {
    load();
    changed();
  } });
  const tasks = taskPicker({ draft, changed,
                             takesGrams: () => methodOf()?.takes_grams === true });
  const bakeoff = bakeoffButton({ context, name, draft, methodOf });
  const place = h("div", { "aria-busy": "true" });
  const notice = h("div");
  const state = { asked: undefined };

  async function load() {
    if (state.asked === draft.base) return;
    state.asked = draft.base;
    set(place, { "aria-busy": "true" });
    try {
      const models = await getAll("models",
                                  { query: { base: draft.base || null }, signal: context.signal });
      if (state.asked !== draft.base) return;
      tasks.show(models);
      fill(notice);
    } catch (error) {
      if (context.signal.aborted) return;
      state.asked = undefined;
      fill(notice, showProblem(error));
    }
    set(place, { "aria-busy": "false" });
  }

  const node = h("section", { class: "card" }, h("h2", null, "Models"), base.node,
                 h("h3", null, "Fine-tunes"), notice, append(place, tasks.node),
                 bakeoff.node);
  return {
    node, load,
    update() {
      tasks.draw();
      bakeoff.update();
    },
    begin: (models) => base.show(models),
    fields: () => new Map([...base.fields(), ...tasks.fields()]),
  };
}

/** Base and tasks of the job that is started from: they stay. */
function fixedSection(job) {
  const { base, tasks } = job.specification;
  return {
    node: h("section", { class: "card" }, h("h2", null, "Models"),
      h("p", { class: "quiet" }, "Those of ",
        h("a", { href: link("jobs", job.id) }, job.name || job.id),
        ", from whose measurements this merge starts."),
      facts([["Base", base], ["Tasks", tasks.map(({ name }) => name).join(", ")]]),
      job.reusable ? null : h("div", { class: "notice bad", role: "alert" },
        h("strong", null, "What this job measured is not kept any more."),
        h("p", null, h("a", { href: link("new", { like: job.id }) }, "Merge the same models anew"),
          "."))),
    fields: () => new Map(),
  };
}

function startingDraft({ name, job, methods, query, isFixed }) {
  const initial = job === null ? { ...EMPTY } : draftFrom(job.specification, methods);
  const wanted = query.get("budget");
  const from = job?.specification.from_job;
  if (!isFixed && from !== undefined) // what that job started from
    initial.survey = { job: from, of: surveyText(initial, methods.find(({ name: method }) =>
      method === initial.method)) };
  const draft = draftOf(name, initial);
  if (wanted !== null && draft.asked !== wanted)
    Object.assign(draft, sizeOf(Number(wanted) > 0 ? Number(wanted) : wanted), { asked: wanted });
  return draft;
}

function show({ context, methods, models, job, isFixed, frontier }) {
  const name = job === null ? "new" : `${isFixed ? "from" : "like"}-${job.id}`;
  const draft = startingDraft({ name, job, methods, query: context.query, isFixed });
  const planned = { of: null, bytes: NaN }; // of the last plan: of which models, bytes of one
  const changed = () => {
    size.tellBytes(planned.of === modelText(draft) ? planned.bytes : NaN);
    curve.draw();
    people.update();
    picked.update?.();
    set(sizeCard, { hidden: options.method()?.takes_budget === false });
    form.changed();
  };
  const options = optionsForm({ draft, methods, changed });
  const people = peopleForm({ draft, changed, propose: () => proposedName(draft) });
  const size = sizePicker({ draft, changed, label: "How large may the result be?" });
  const curve = curveArea({ context, draft, size, methodOf: options.method, changed,
                            keep: () => keepDraft(name, draft), known: frontier });
  const picked = isFixed ? fixedSection(job) : modelsSection(
    { context, name, draft, methodOf: options.method, changed });
  const sizeCard = h("section", { class: "card" }, h("h2", null, "Size"),
                     h("p", { class: "quiet" }, SIZE_HELP), size.node, curve.node);
  const form = jobForm({
    context, name, draft, verb: "Start the merge",
    sections: [picked.node, sizeCard, options.node, people.node],
    lack: isFixed ? lackOfSize : lackOf,
    request: () => specificationOf(draft, options.method(), isFixed ? job.id : curve.source()),
    fields: () =>
      new Map([...picked.fields(), ...size.fields(), ...options.fields(), ...people.fields()]),
    onplan(plan) {
      Object.assign(planned, { of: modelText(draft), bytes: modelBytesOf(plan) });
      size.tellBytes(planned.bytes);
      curve.setParameters(plan.parameters);
    },
  });
  append(context.root, form.node);
  picked.begin?.(models);
  picked.load?.();
  changed();
}

async function load(context, waiting) {
  const { signal, query } = context;
  const from = query.get("from") ?? query.get("from_job");
  const id = from ?? query.get("like");
  const [{ methods }, models, job] = await Promise.all([
    get("methods", { signal }), from === null ? getAll("models", { signal }) : [],
    id === null ? null : get(`jobs/${segment(id)}`, { signal })]);
  const frontier = from === null ? null : await get(`jobs/${segment(from)}/frontier`, { signal })
    .catch((error) => {
      if (error instanceof Problem) return null; // a method that has none
      throw error;
    });
  waiting.remove();
  if (from === null && models.length === 0)
    append(context.root,
           showNothing("No models yet.", "Models lie in the server's model directories. ",
      h("a", { href: link("models") }, "Fetch or rescan models"), "."));
  else show({ context, methods, models, job, isFixed: from !== null, frontier });
  context.ready();
}

export async function openNew(context) {
  if (context.query.get("extend") !== null) {
    await openExtend(context);
    return;
  }
  const waiting = h("p", { class: "quiet waiting" }, "Loading …");
  const from = context.query.get("from") ?? context.query.get("from_job");
  const heading = from === null ? "New merge" : "The same models at another size";
  context.title(heading);
  append(context.root, h("h1", { tabindex: "-1" }, heading), waiting);
  try {
    await load(context, waiting);
  } catch (error) {
    if (context.signal.aborted) return;
    if (error instanceof Problem) context.fail(error);
    else fill(waiting, showProblem(error));
  }
}
