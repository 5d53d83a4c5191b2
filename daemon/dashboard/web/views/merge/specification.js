// SPDX-License-Identifier: Apache-2.0
// From what a form holds to what is submitted, and to the command that submits the same.
// Pure functions.
import { formatNumber } from "../../app/format.js";
import { shellWord } from "../../app/text.js";
import { MARKS } from "../../drawings/series.js";
import { bytesOf, labelLines, labelsOf, linesOf, numberOf } from "../../parts/fields.js";

/** What a form holds at first. Texts are as typed; `options`: field of a method -> text. */
export const EMPTY = {
  base: null, // null: a guess may fill it in
  tasks: [], // {model, name, weight, gram}; name "": proposed
  size: "M", // S, M, L, or one of UNITS with `amount`
  amount: "",
  method: "didi", options: {}, include: "", exclude: "", whole: "", lowRank: "",
  ownTensors: "keep", missing: "auto", dtype: "", seed: "", priority: "", labels: "",
  name: null, // null: proposed; what is typed stays, be it nothing
  survey: null, // {job, of}: a curve that was measured, and of what
  sending: null, // {key, body} of a submission whose answer was not seen
};

/** Ways to say a size beyond S, M and L. */
export const UNITS = [["models", "models of 16 bits"], ["bytes", "bytes, as 300 MB"],
                      ["bytes_ratio", "of the base's bytes"], ["max_error", "largest error"]];

export function budgetOf({ size, amount }) {
  if (["S", "M", "L"].includes(size)) return size;
  if (size === "models") return numberOf(amount);
  return { [size]: size === "bytes" ? bytesOf(amount) : numberOf(amount) };
}

/** The other way round: {size, amount}. */
export function sizeOf(budget) {
  if (typeof budget === "string") return { size: budget, amount: "" };
  const named = MARKS.find(({ x }) => x === budget);
  if (named !== undefined) return { size: named.name, amount: "" };
  if (typeof budget === "number") return { size: "models", amount: String(budget) };
  const [[size, amount]] = Object.entries(budget ?? { models: "" });
  return { size, amount: String(amount) };
}

// ---- names of tasks ----

function lastPart(model) {
  const [path] = model.split("@");
  return path.slice(path.lastIndexOf("/") + 1);
}

function asTaskName(text) {
  return text.replace(/[^A-Za-z0-9._-]+/g, "-").replace(/^[.-]+|[.-]+$/g, "").slice(0, 128)
    || "task";
}

/** What the base's name and this one begin with, up to a separator: vit-b32- */
function sharedStart(base, name) {
  let end = 0;
  for (let i = 0; i < name.length && name[i] === base[i]; i += 1)
    if ("-_.".includes(name[i])) end = i + 1;
  return end;
}

function proposal(model, base) {
  const name = lastPart(model);
  const rest = name.slice(sharedStart(lastPart(base ?? ""), name));
  return asTaskName(rest === "" || /^\d+$/.test(rest) ? name : rest);
}

/** A name for each task: what was typed, else one made of its model's, none twice. */
export function taskNames({ tasks, base }) {
  const taken = new Set(tasks.map(({ name }) => name).filter((name) => name !== ""));
  return tasks.map(({ model, name }) => {
    if (name !== "") return name;
    const first = proposal(model, base);
    const whole = asTaskName(model.replace(/[/@]/g, "-"));
    let found = [first, whole].find((one) => !taken.has(one));
    for (let n = 2; found === undefined; n += 1)
      if (!taken.has(`${first}-${n}`)) found = `${first}-${n}`;
    taken.add(found);
    return found;
  });
}

const NAMED_TASKS = 3; // in the name of a job; of more, their number
const NAME_MOST = 100;

/** A name for a job: "hiragana, latin on base"; "" where there is nothing to name it after. */
export function jobName(base, tasks) {
  if (!base || tasks.length === 0) return "";
  const what = tasks.length > NAMED_TASKS ? `${tasks.length} tasks` : tasks.join(", ");
  return `${what} on ${lastPart(base)}`.slice(0, NAME_MOST);
}

/** The name that a form proposes for its job. */
export function proposedName(draft) {
  return jobName(draft.base, taskNames(draft));
}

/** `method`: the one that is asked for, null where none is. */
function tasksOf(draft, method) {
  const names = taskNames(draft);
  return draft.tasks.map(({ model, weight, gram = "" }, i) => {
    const task = { name: names[i], model };
    if (weight !== "" && numberOf(weight) !== 1) task.weight = numberOf(weight);
    putIf(task, "gram", gram, gram !== "" && method?.takes_grams === true);
    return task;
  });
}

// ---- specification ----

/** Puts a value where a JSON pointer says, making the objects on the way. */
function put(object, pointer, value) {
  const parts = pointer.slice(1).split("/");
  const last = parts.pop();
  let at = object;
  for (const part of parts) at = at[part] ??= {};
  at[last] = value;
}

function typed(option, text) {
  if (option.type === "boolean") return text === "true";
  return option.type === "string" ? text : numberOf(text);
}

function putOptions(specification, draft, method) {
  for (const option of method?.options ?? []) {
    const text = draft.options[option.field] ?? "";
    if (text !== "" && typed(option, text) !== option.default)
      put(specification, option.field, typed(option, text));
  }
}

function putIf(object, key, value, isWanted) {
  if (isWanted) object[key] = value;
}

/** What decides about the curve: all but the size and what is for people. */
function putChoices(specification, draft, method) {
  putIf(specification, "method", draft.method, draft.method !== "didi");
  putOptions(specification, draft, method);
  for (const [key, text] of [["include", draft.include], ["exclude", draft.exclude],
                             ["dense_tensors", draft.whole], ["low_rank_tensors", draft.lowRank]])
    putIf(specification, key, linesOf(text), linesOf(text).length > 0);
  putIf(specification, "own_tensors", draft.ownTensors, draft.ownTensors !== "keep");
  putIf(specification, "missing", draft.missing, draft.missing !== "auto");
  putIf(specification, "seed", numberOf(draft.seed), draft.seed !== "");
}

/** The specification of a survey. */
export function surveySpecification(draft, method) {
  const specification = { base: draft.base, tasks: tasksOf(draft, method) };
  putChoices(specification, draft, method);
  return { name: "survey", ...specification, survey: true };
}

/** What a curve is of: two surveys of one text are one. */
export function surveyText(draft, method) {
  return JSON.stringify(surveySpecification(draft, method));
}

function putForPeople(specification, { name, priority, labels }, proposed) {
  putIf(specification, "name", name ?? proposed, (name ?? proposed) !== "");
  putIf(specification, "priority", numberOf(priority), priority !== "");
  putIf(specification, "labels", labelsOf(labels)[0], labels.trim() !== "");
}

/** The specification. `fromJob`: the job whose spectra it starts from, or null. */
export function specificationOf(draft, method, fromJob) {
  const specification = {};
  if (fromJob !== null) specification.from_job = fromJob;
  else Object.assign(specification, { base: draft.base, tasks: tasksOf(draft, method) });
  putIf(specification, "budget", budgetOf(draft), method?.takes_budget ?? true);
  putChoices(specification, draft, method);
  putIf(specification, "output", { dtype: draft.dtype }, draft.dtype !== "");
  putForPeople(specification, draft, proposedName(draft));
  return specification;
}

/** The request for a bake-off of the same models. */
export function bakeoffOf(draft, method) {
  return { base: draft.base, tasks: tasksOf(draft, method), name: proposedName(draft) };
}

/** The request of an extension; `draft.removed`: names, `draft.rebalance`, `draft.compare`;
 *  `proposed`: a name where none was typed. */
export function extensionOf(draft, job, proposed) {
  const extend = { job };
  putIf(extend, "remove", draft.removed, draft.removed.length > 0);
  if (draft.rebalance) extend.rebalance = true;
  else putIf(extend, "budget", draft.size === "bytes" ? { bytes: bytesOf(draft.amount) }
                                                      : numberOf(draft.amount),
             draft.amount.trim() !== "");
  putIf(extend, "compare", false, !draft.compare);
  const request = { extend };
  putIf(request, "tasks", tasksOf(draft, null), draft.tasks.length > 0);
  putForPeople(request, draft, proposed);
  return request;
}

export function lackOfSize({ size, amount }) {
  return ["S", "M", "L"].includes(size) || amount.trim() !== "" ? null
    : { pointer: "/budget", detail: "Say how large the result may be." };
}

const BITS = { auto: 16, bf16: 16, f16: 16, f32: 32, int8: 8, int4: 4, int3: 3 };

/** What one model takes in a size that counts models: bytes, NaN where the dtype is not known. */
export function modelBytesOf({ parameters, specification }) {
  return (parameters * BITS[specification.output?.dtype ?? "auto"]) / 8;
}

/** What decides about the bytes of one model: two plans of one text have the same. */
export function modelText(draft) {
  return JSON.stringify([draft.base, draft.tasks.map(({ model }) => model), draft.method,
                         draft.include, draft.exclude, draft.dtype]);
}

/** What lacks before the server can be asked, as {pointer, detail}; or null. */
export function lackOf(draft) {
  if (!draft.base) return { pointer: "/base",
                            detail: "Pick the base that the fine-tunes were tuned from." };
  if (draft.tasks.length === 0) return { pointer: "/tasks",
                                         detail: "Take at least one fine-tune." };
  return lackOfSize(draft);
}

/** What the form itself finds wrong, as {pointer, detail}; or null. */
export function ownFault(draft) {
  const [, bad] = labelsOf(draft.labels);
  return bad === null ? null
    : { pointer: "/labels", detail: `"${bad}" is no label. Write key=value, one a line.` };
}

// ---- a form from a specification ----

function at(object, pointer) {
  return pointer.slice(1).split("/").reduce((value, part) => value?.[part], object);
}

const optionText = (value) => typeof value === "number" ? formatNumber(value, 12) : String(value);

/** What a form shows of a job's specification. */
export function draftFrom(specification, methods) {
  const method = methods.find(({ name }) => name === (specification.method ?? "didi"));
  const options = {};
  for (const { field, default: usual } of method?.options ?? []) {
    const value = at(specification, field);
    if (value !== undefined && value !== usual) options[field] = optionText(value);
  }
  const globs = (list) => (list ?? []).join("\n");
  return {
    ...EMPTY, ...sizeOf(specification.budget ?? "M"), options,
    base: specification.base, method: specification.method ?? "didi",
    tasks: specification.tasks.map(({ name, model, weight = 1, gram = "" }) =>
      ({ model, name, weight: weight === 1 ? "" : String(weight), gram })),
    include: globs(specification.include), exclude: globs(specification.exclude),
    whole: globs(specification.dense_tensors), lowRank: globs(specification.low_rank_tensors),
    ownTensors: specification.own_tensors ?? "keep", missing: specification.missing ?? "auto",
    dtype: specification.output?.dtype ?? "",
    name: specification.survey ? null : specification.name || null,
    seed: specification.seed ? String(specification.seed) : "",
    priority: specification.priority ? String(specification.priority) : "",
    labels: labelLines(specification.labels),
  };
}

// ---- the same as a command ----

function budgetWord(budget) {
  if (typeof budget !== "object") return String(budget);
  const [[unit, amount]] = Object.entries(budget);
  return `${unit}=${amount}`;
}

function flatten(value, path) {
  if (value === null || typeof value !== "object" || Array.isArray(value)) return [[path, value]];
  return Object.entries(value).flatMap(([key, one]) => flatten(one,
      path === "" ? key : `${path}.${key}`));
}

function joined(words) {
  return words.map(([option, value]) => value === undefined ? option
                                                            : `${option} ${shellWord(value)}`)
    .reduce((text, word) => {
      const last = text.slice(text.lastIndexOf("\n") + 1);
      return last.length + word.length > 76 ? `${text} \\\n    ${word}` : `${text} ${word}`;
    });
}

const taskWord = ({ name, model }) => `${name}=${model}`;

function peopleWords({ name, priority, labels = {} }) {
  return [...name === undefined ? [] : [["--name", name]],
          ...priority === undefined ? [] : [["--priority", priority]],
          ...Object.entries(labels).map(([key, value]) => ["--label", `${key}=${value}`])];
}

function extendWords(request) {
  const { job, remove = [], budget, rebalance, compare } = request.extend;
  return [["extend", job], ...(request.tasks ?? []).map((task) => ["--add", taskWord(task)]),
          ...remove.map((name) => ["--remove", name]),
          ...budget === undefined ? [] : [["--budget", budgetWord(budget)]],
          ...rebalance ? [["--rebalance"]] : [], ...compare === false ? [["--no-compare"]] : [],
          ...peopleWords(request)];
}

function submitWords(specification) {
  const { from_job: from, base, tasks = [], budget, method, output, name, priority, labels,
          ...others } = specification;
  const ofTasks = (key) => tasks.flatMap((task, i) => task[key] === undefined ? []
    : [["--set", `tasks.${i}.${key}=${task[key]}`]]);
  return [["submit"], ...from === undefined ? [] : [["--from-job", from]],
          ...base === undefined || base === null ? [] : [["--base", base]],
          ...tasks.map((task) => ["--task", taskWord(task)]),
          ...budget === undefined ? [] : [["--budget", budgetWord(budget)]],
          ...method === undefined ? [] : [["--method", method]],
          ...output === undefined ? [] : [["--dtype", output.dtype]],
          ...flatten(others, "").map(([path, value]) =>
            ["--set", `${path}=${typeof value === "string" ? value : JSON.stringify(value)}`]),
          ...ofTasks("weight"), ...ofTasks("gram"), ...peopleWords({ name, priority, labels })];
}

/** The command of didictl; `server`: its address. */
export function commandOf(request, server) {
  const words = request.extend ? extendWords(request) : submitWords(request);
  return joined([[`didictl --host ${shellWord(server)}`], ...words]);
}
