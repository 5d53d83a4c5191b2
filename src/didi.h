/* SPDX-License-Identifier: Apache-2.0 */
/* libdidi's public header: merge a family of fine-tuned checkpoints into shared and expert factors.
 *
 * The library knows tensors and files; it starts no thread and keeps no global state. A merge is a
 * sequence of stages made of independent items. One thread, the owner, asks didi_merge_next for
 * items, hands each to any thread for didi_item_execute, and gives it back with
 * didi_merge_complete. So the caller's pool, fairness, cancel and shutdown policies stay the
 * caller's.
 *
 * Threads: functions marked [owner] are called by one thread at a time for one merge; [any] from
 * any thread. Strings returned live as long as the object they come from. */
#pragma once

#include "src/base/base.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct didi_merge didi_merge;
typedef struct didi_item didi_item;

const char *didi_precision_name(didi_precision precision);
const char *didi_budget_unit_name(didi_budget_unit unit);

/* Stages in order. A job that needs no learned ranks skips none: empty stages just have no items.
 */
#define DIDI_STAGE_TABLE(X)                                                                        \
    X(DIGEST, "digest")       /* SHA-256 of every input file */                                    \
    X(DECOMPOSE, "decompose") /* spectra of every layer */                                         \
    X(ALLOCATE, "allocate")   /* ranks under the budget (learned, or greedy) */                    \
    X(PURSUE, "pursue")       /* shared and expert blocks grown together (pursuit, joint) */       \
    X(REFINE, "refine")       /* factors at fixed ranks */                                         \
    X(PUBLISH, "publish")     /* artifacts written and renamed into place */
typedef enum didi_stage {
#define DIDI_STAGE_ENUMERATOR(id, name) DIDI_STAGE_##id,
    DIDI_STAGE_TABLE(DIDI_STAGE_ENUMERATOR)
#undef DIDI_STAGE_ENUMERATOR
        DIDI_STAGE_COUNT
} didi_stage;
const char *didi_stage_name(didi_stage stage);

typedef struct didi_task_input {
    const char *name;  /* names the expert's file: 1 to 128 of [A-Za-z0-9._-], no leading dot */
    const char *label; /* the model's name, for errors and the manifest */
    int directory_fd;  /* the model's or adapter's directory; duplicated, stays the caller's */
    double weight;     /* > 0, finite; multiplies the task's weight in every loss */
    /* For methods that need them: a directory with the Gram matrices of the inputs of the task's
     * layers, as a model whose arrays have the tensors' names. NULL: none, and gram_fd means
     * nothing. */
    const char *gram; /* its name, for errors and the manifest */
    int gram_fd;      /* duplicated, stays the caller's */
} didi_task_input;

/* A finished package to extend: its shared part and the experts that are not removed stay as they
 * are, byte for byte; the merge's tasks are those added (none, when only some are removed), its
 * budget is theirs alone, and its other options are those the package was made with. The new
 * package is whole. Pointers are not used after didi_merge_open. */
typedef struct didi_extension {
    int package_fd;  /* directory of the package's manifest.json; -1: a merge of its own */
    const char *job; /* what made the package, for the new manifest; may be NULL */
    const char *const *removed; /* names of the package's tasks */
    size_t removed_count;
    int comparison_fd; /* package of a full merge of the same tasks, for the report; or -1 */
    const char *comparison_reason; /* why there is none; may be NULL */
} didi_extension;

/* Everything a merge depends on. didi_merge_options_default fills the defaults; pointers are copied
 * by didi_merge_open and may be freed after it returns. */
typedef struct didi_merge_options {
    const char *method;         /* NULL: the default */
    const char *method_options; /* JSON text of an object; NULL: the defaults */
    const char *base_label;
    int base_fd;       /* the base model's directory; duplicated */
    file_bounds links; /* besides its own directory, where links in a model may lead; not kept */
    const didi_task_input *tasks;
    size_t task_count;
    didi_extension extend;

    /* End once error against budget is known: manifest.json alone is published, and with keep_work
     * what another merge goes on from. Ranks of no budget are final then, so `budget` may be 0. */
    bool survey;
    double budget; /* what is stored, factors and dense together; > 0, finite, in budget_unit; 0
                      with a method whose size is its own */
    didi_budget_unit budget_unit;
    didi_shared_merge shared_merge;
    didi_allocator allocator;
    didi_weighting weighting;
    didi_objective objective;
    double beta;               /* gate sharpness, differentiable only; > 0 */
    double lambda;             /* weight of |R - R_target|; >= 0 */
    double rank_learning_rate; /* in units of rank; > 0 */
    size_t rank_steps;         /* 0 .. 100000 */
    didi_optimizer optimizer;
    size_t refine_steps;         /* ALS sweeps or Adam steps; 0 leaves the truncated factors */
    double refine_learning_rate; /* Adam only, relative to the factors' root mean square; > 0 */
    double tolerance; /* stop when a sweep lowers a layer's loss by less than this share; >= 0 */
    const char *const *include; /* globs on tensor names; NULL or 0 = all */
    size_t include_count;
    const char *const *exclude; /* excluded tensors are served as the base has them */
    size_t exclude_count;
    const char *const *dense_tensors; /* globs: keep these whole though they are matrices */
    size_t dense_tensor_count;
    const char *const *low_rank_tensors; /* globs: never keep these whole by the size rule */
    size_t low_rank_tensor_count;
    didi_own_tensors own_tensors; /* what only one task has: heads, rows of a grown vocabulary */
    didi_missing missing;         /* what a task lacks */
    didi_dense dense;
    didi_precision precision; /* how factors and deltas are stored */
    uint64_t seed;

    uint64_t memory_limit; /* bytes of working memory for all items in flight; 0 = no limit */
    size_t workers;        /* threads the caller will use; only estimates depend on it */

    int work_fd; /* directory for per-layer state (made durable unless volatile_work); duplicated */
    int output_fd; /* directory in which `output_name` will appear by rename; duplicated.
                      -1 for a plan only (didi_merge_open then needs no work_fd either) */
    const char *output_name;
    bool volatile_work; /* foreground runs: skip fsync of per-layer state */
    bool keep_work;     /* leave in work_fd what another merge can start from (didi_reuse_seal) */
    int reuse_fd;       /* sealed work directory of a finished merge of the same inputs, read only;
                           -1 = none; duplicated */
    const char *specification_json; /* echoed as "specification" in the manifest; a JSON object */
    bool elsewhere; /* other processes run items, over the same work_fd (see below) */
    bool worker; /* this is such a process: nothing of another's is removed, output_fd is not used
                    and nothing is published */
} didi_merge_options;

void didi_merge_options_default(didi_merge_options *options);

/* A moment of a merge. */
typedef enum didi_event_kind {
    DIDI_EVENT_STAGE,    /* a stage began: told once for each that has work */
    DIDI_EVENT_POINT,    /* telemetry: numbers below that are not NaN are known */
    DIDI_EVENT_NOTE,     /* a text an operator may want: fallback used, tensor kept dense, ... */
    DIDI_EVENT_FRONTIER, /* what to expect of other budgets is known, and in DIDI_OUTLOOK_FILE */
} didi_event_kind;

typedef struct didi_event {
    didi_event_kind kind;
    didi_stage stage;
    uint64_t step;         /* within the stage: rank step, sweep, layers done */
    double loss;           /* the stage's objective, summed over the layers it covers */
    double relative_error; /* sum |tau_hat - tau|^2 / sum |tau|^2 so far */
    double ratio; /* parameters now / one model's; for a budget in bytes: bytes / the base files',
                     with precision auto, of a number or an error, / a model's in 16 bits */
    double ratio_target;            /* the budget in this unit; NaN where an error is asked for */
    size_t items_done, items_total; /* of the stage; steps while ranks are learned */
    double seconds;                 /* since the merge began (this process) */
    uint64_t bytes_read;            /* from inputs, this process */
    const char *text;               /* NOTE: one line; else NULL. Valid during the call */
} didi_event;

/* In the work directory from DIDI_EVENT_FRONTIER on, whole or absent: a JSON object with
 * `specification`, `budget`, `frontier` and, of a merge of its own, `similarity`, as the manifest
 * has them, but without what is measured later. Not with volatile_work. */
#define DIDI_OUTLOOK_FILE "outlook.json"

/* Called from any thread, possibly at once; must not call back into the merge. */
typedef struct didi_merge_hooks {
    void *context;
    void (*event)(void *context, const didi_event *event); /* may be NULL */
} didi_merge_hooks;

/* Opens the models, compares names, shapes and dtypes from headers alone, sorts tensors into
 * matrices, dense and passed through, makes the plan, and picks up finished layers in work_fd from
 * an earlier attempt with the same options (another one's state is discarded). Where the artifacts
 * are in place already, made by the same options from the same files (name, size, time), the merge
 * is finished at once. Reads no tensor data. [owner]
 * Errors: DIDI_CONFLICT (`output_name` exists and is another's), DIDI_INVALID (option, subject =
 * its specification field), DIDI_MISMATCH (each difference named, the first ones in the message),
 * DIDI_FORMAT, DIDI_NOT_FOUND, DIDI_BUDGET (the message gives the smallest budget that works),
 * DIDI_MEMORY_LIMIT (gives the bytes needed), DIDI_CHANGED, DIDI_IO, DIDI_NO_MEMORY. To extend a
 * package also: DIDI_MISMATCH (another base), DIDI_CHANGED (a file of the package is not what its
 * manifest says; all digests are compared in the first stage). With reuse_fd also: DIDI_CHANGED (a
 * file is another than then: named), DIDI_MISMATCH (other models or tasks), DIDI_NOT_FOUND (the
 * directory holds nothing to start from); the latter two have the subject "/from_job". */
int didi_merge_open(const didi_merge_options *options, const didi_merge_hooks *hooks,
                    didi_merge **ret_merge, didi_error *error);

/* Frees; no item may be in flight. Work files stay unless the merge is done and keep_work is off.
 * NULL is fine. [owner] */
void didi_merge_close(didi_merge *merge);

/* What the headers alone tell (dry run). */
typedef struct didi_plan_layer {
    const char *tensor;
    uint64_t rows, columns;
    uint64_t rank_limit; /* largest rank at which a factor pair is smaller than the matrix */
} didi_plan_layer;
typedef struct didi_plan {
    size_t tasks;
    uint64_t parameters;        /* of one model, over the tensors merged */
    uint64_t dense_parameters;  /* stored whole, all tasks together */
    uint64_t own_parameters;    /* of these, what only one task has */
    uint64_t own_bytes;         /* of these tensors in the files, at most */
    uint64_t factor_parameters; /* ceiling left for factors */
    didi_budget_unit budget_unit;
    double budget;
    double budget_minimum; /* smallest with one rank somewhere, in the budget's unit */
    size_t layer_count;
    const didi_plan_layer *layers;                         /* matrices, by name */
    size_t dense_count, passthrough_count, excluded_count; /* tensors */
    uint64_t memory_minimum_bytes;                         /* what memory_limit must at least be */
    uint64_t memory_peak_bytes;                            /* with `workers` items in flight */
    size_t streamed_count;   /* matrices read panel by panel, to stay within memory_limit */
    uint64_t streamed_bytes; /* of these in one model's files */
    uint64_t spilled_bytes;  /* of disk_bytes: factors in flight that do not fit memory */
    uint64_t disk_bytes;     /* work files and artifacts together, at most */
    uint64_t artifact_bytes; /* at most */
    uint64_t bytes_to_read;
    double flops; /* floating-point operations, estimated */
} didi_plan;
/* [any, after open] */
const didi_plan *didi_merge_plan(const didi_merge *merge);

typedef enum didi_next {
    DIDI_NEXT_ITEM,     /* *ret_item is to be executed */
    DIDI_NEXT_WAIT,     /* nothing to start until an item in flight completes (or memory is free) */
    DIDI_NEXT_FINISHED, /* nothing in flight, nothing left: ask didi_merge_result */
} didi_next;

/* The next item to run. `memory_available` is what the caller grants now; an item that needs more
 * is not given out (pass UINT64_MAX for no bound: memory_limit of the options is the merge's own).
 * With `helper` true and nothing else to start, gives a helper item that lends its thread to the
 * layers in flight until they finish or didi_merge_recall_helpers. Never blocks, never computes.
 * [owner] */
didi_next didi_merge_next(didi_merge *merge, uint64_t memory_available, bool helper,
                          didi_item **ret_item);

/* True when didi_merge_next gives out no more items: the merge is done, failed or cancelled, though
 * items may still be in flight. [owner] */
bool didi_merge_is_over(const didi_merge *merge);

/* Bytes an item may use, here or where it is run (0 for helpers). [any] */
uint64_t didi_item_memory(const didi_item *item);

/* Runs an item; its outcome is kept inside. Set one BLAS thread first (didi_blas_use_one_thread).
 * [any] */
void didi_item_execute(didi_item *item);

/* Takes an executed item back and frees it. Advances stages, emits events. [owner] */
void didi_merge_complete(didi_merge *merge, didi_item *item);

/* Asks helper items to return soon. [any] */
void didi_merge_recall_helpers(didi_merge *merge);

/* Asks items in flight to stop at the next sweep or panel; after they complete, next says FINISHED
 * and the result is DIDI_CANCELLED. A merge whose artifacts were already renamed stays done. [any]
 */
void didi_merge_cancel(didi_merge *merge);

/* After FINISHED: DIDI_OK when the artifacts are in place, else the failure (first one wins).
 * [owner] */
int didi_merge_result(const didi_merge *merge, didi_error *error);

/* Progress at this moment, in [0, 1], and the stage in force. [owner] */
double didi_merge_progress(const didi_merge *merge, didi_stage *ret_stage);

/* ---- items in other processes ----
 *
 * The owner opens its merge with `elsewhere`, and each worker, anywhere, one of the same options,
 * models and work directory with `worker`. Rows of items that leave a state in the work directory
 * (digests, and what a method does for each tensor) are then given out by
 * didi_merge_next_elsewhere, others by didi_merge_next. A worker computes what the owner told it by
 * didi_place, and the owner takes its state up from the directory. An item may be computed more
 * than once, also at once: its state is the same, and appears whole. */

/* Where an item stands: which time rows are gone through (a merge may go back), the row, the item.
 */
typedef struct didi_place {
    uint64_t round, row, index;
} didi_place;

/* The next item that another process can run, heaviest first; its memory is nobody's here. WAIT:
 * none now. [owner] */
didi_next didi_merge_next_elsewhere(didi_merge *merge, didi_item **ret_item);
/* [any] */
didi_place didi_item_place(const didi_item *item);
/* What it costs, against others of its row. [any] */
double didi_item_cost(const didi_item *item);
/* Takes up the state that another process left, in place of didi_item_execute; then
 * didi_merge_complete takes it back. Errors: DIDI_NOT_FOUND (none is there, or none that can be
 * read: the item is as it was and may be computed again). [any] */
int didi_item_take(didi_item *item, didi_error *error);
/* Another outcome in place of didi_item_execute: it could not be computed, or was cancelled. [any]
 */
void didi_item_fail(didi_item *item, int status, const didi_error *error);

/* As a worker: the item at `place`. ITEM: to be executed and completed as ever. WAIT: what its row
 * needs is not there: states of earlier rows are not seen in the directory, or memory is not free
 * before another item completes, or didi_merge_next has an item that comes first. FINISHED: its
 * state is there. Errors are in didi_merge_result. [owner] */
didi_next didi_merge_next_at(didi_merge *merge, const didi_place *place, uint64_t memory_available,
                             didi_item **ret_item);

/* What items of one row took. */
typedef struct didi_usage {
    uint64_t cpu_ns, flops, bytes_read;
    uint64_t peak_memory; /* bytes */
} didi_usage;
/* Of this process. [any] */
void didi_merge_usage(const didi_merge *merge, const didi_place *place, didi_usage *ret_usage);
/* Adds what another process told, to what the manifest reports. [owner] */
void didi_merge_add_usage(didi_merge *merge, const didi_place *place, const didi_usage *usage);

/* ---- which models go together ---- */

/* How a model stands to a base. */
typedef struct didi_fit {
    size_t matched; /* tensors of the base that it has values or factors for */
    size_t missing; /* tensors of the base that it lacks: none of an adapter */
    size_t own;     /* its tensors that the base has not, or in another shape */
    double share;   /* of the base's parameters that are matched */
} didi_fit;

/* Whether the only task of `options` would do as a fine-tune of their base, from headers alone, as
 * didi_merge_open compares them: base_fd, links, labels, the task and what selects tensors are
 * looked at, must be valid, and there must be one task. Errors: those of didi_merge_open on models;
 * DIDI_MISMATCH, DIDI_INVALID and DIDI_FORMAT say why it would not. [any] */
int didi_fit_check(const didi_merge_options *options, didi_fit *ret_fit, didi_error *error);

/* ---- what another merge can start from ---- */

/* Leaves in the work directory of a merge that finished with keep_work what reuse_fd takes (spectra
 * and bases of every layer, digests of the inputs), removes the rest, and tells its size. May be
 * repeated. Errors: DIDI_NOT_FOUND (nothing to start from: the merge did not finish, or did not
 * keep), DIDI_IO. [any] */
int didi_reuse_seal(int work_fd, uint64_t *ret_bytes, didi_error *error);

/* ---- exports ---- */

/* Where from, and where to. Nothing is taken. */
typedef struct didi_export {
    int artifact_fd, base_fd, output_fd; /* directories */
    int task_fd;       /* of the task's model, whose configuration goes along; -1: it is gone */
    file_bounds links; /* where links in the base may lead */
    const char *base_label, *task;
    uint64_t max_shard_bytes;        /* of tensors in one file; 0: no limit */
    bool verify_base;                /* against the manifest's digests */
    int (*cancelled)(void *context); /* may be NULL */
    void *context;
} didi_export;

/* Rebuilds one task's model from an artifact directory and the base, as the directory `task` in
 * output_fd, which appears whole or not at all and replaces one that is there. In it: the tensors
 * the task's own checkpoint had (docs/format.md), those of the base in the base's dtypes, as
 * model.safetensors or as shards with an index; what configures model, tokenizer and processor,
 * each from the task's model where that has any of it, else from the base; README.md. Memory: the
 * largest tensor. Errors: DIDI_NOT_FOUND (no such task), DIDI_MISMATCH / DIDI_CHANGED (not the base
 * that was merged), DIDI_FORMAT, DIDI_INVALID (more shards than a model may have), DIDI_NUMERIC,
 * DIDI_IO, DIDI_DISK_FULL, DIDI_CANCELLED. [any] */
int didi_export_full(const didi_export *wanted, didi_error *error);

/* How the LoRA adapter of a task is written (docs/exports.md). */
typedef struct didi_adapter_options {
    bool exact; /* each module at its own rank, and what only PEFT reads; else one rank for all */
    uint64_t max_rank;        /* of a module; 0: as the package has it */
    bool as_packaged;         /* numbers have the package's dtype, bf16 where it is packed */
    didi_precision precision; /* else: f32, bf16 or f16 */
} didi_adapter_options;

/* Errors and what is left out are shares of |tau_hat|^2, the task's whole change as the package
 * serves it. */
typedef struct didi_adapter_report {
    uint64_t rank;      /* `r` of adapter_config.json */
    uint64_t modules;   /* with a LoRA */
    uint64_t left_out;  /* tensors that changed and are not in the adapter */
    uint64_t bytes;     /* of all files */
    double error;       /* |written - tau_hat|^2 of the modules, by rank and rounding */
    double lost;        /* of the tensors left out */
    double worst_error; /* the largest |written - tau_hat|^2 / |tau_hat|^2 of one module */
} didi_adapter_report;

/* Writes one task as a PEFT adapter: the directory <task> of output_fd, with adapter_config.json,
 * adapter_model.safetensors, README.md and export.json, replaced whole or not at all. Of the base
 * the headers and config.json are read, and vectors that are saved whole. Memory: the largest
 * matrix and its factors. *ret_report may be NULL. Errors: those of didi_export_full, and
 * DIDI_INVALID (max_rank or precision cannot be used, or nothing of the task has the form of a
 * LoRA), DIDI_NUMERIC (numbers that the precision cannot hold). [any] */
int didi_export_adapter(const didi_export *wanted, const didi_adapter_options *options,
                        didi_adapter_report *ret_report, didi_error *error);

/* Writes what routes to one task without a task id (docs/routing.md): the directory <task> of
 * output_fd with router.safetensors, replaced whole or not at all. Of each linear layer that the
 * task changes, at most `directions` (0: 8) right singular vectors of the change as it is served,
 * in bf16. Of the base headers and config.json are read. Memory: the largest matrix, its Gram
 * matrix and its factors. *ret_bytes may be NULL. Errors: those of didi_export_full, and
 * DIDI_INVALID (a package of one task, or no linear layer changed). [any] */
int didi_export_router(const didi_export *wanted, uint64_t directions, uint64_t *ret_bytes,
                       didi_error *error);
/* The bytes of model.safetensors as didi_export_full writes it into one file, without a file: none
 * are kept. Of `wanted` artifact_fd, base_fd, base_label and task count, and are free to go after
 * the opening; the caller has verified the base. Errors: as didi_export_full. [any] */
typedef struct didi_stream didi_stream;
int didi_stream_open(const didi_export *wanted, didi_stream **ret_stream, uint64_t *ret_bytes,
                     didi_error *error);
/* The next bytes, `room` at most; 0 after the last. Those are given only if the base is still as it
 * was (DIDI_CHANGED). [one thread at a time] */
int didi_stream_read(didi_stream *stream, void *buffer, size_t room, size_t *ret_count,
                     didi_error *error);
/* NULL is fine. */
void didi_stream_close(didi_stream *stream);

/* The name of the model that a task of a package was merged from; the caller frees. Errors:
 * DIDI_NOT_FOUND (the manifest names none), DIDI_IO, DIDI_FORMAT, DIDI_NO_MEMORY. [any] */
int didi_export_source(int artifact_fd, const char *task, char **ret_model, didi_error *error);

/* What the manifest of a package says of it as a whole; NaN of a survey, and of what it lacks. */
typedef struct didi_package_figures {
    bool survey;
    double error;   /* relative, over all matrices */
    double ratio;   /* bytes to those of one model in 16 bits */
    uint64_t bytes; /* of all files but the manifest */
} didi_package_figures;

/* Errors: DIDI_NOT_FOUND, DIDI_IO, DIDI_FORMAT, DIDI_NO_MEMORY. [any] */
int didi_package_measure(int artifact_fd, didi_package_figures *ret_figures, didi_error *error);

/* ---- process-wide facts ---- */

/* The methods there are, as JSON text: {"methods": [{"name", "usable", "summary", "takes_budget",
 * "takes_grams", "extends", "reuses", "surveys", "options": [{"field", "type", "default", ...}]}]};
 * of those that cannot be used "needs" says what they lack. The caller frees. NULL when out of
 * memory. [any] */
char *didi_methods_json(void);

typedef struct didi_blas_info {
    const char *library; /* path of the mapped file that holds sgemm, or "unknown" */
    const char *flavour; /* "pthread", "serial" or "openmp" */
    const char *kernel;  /* core name OpenBLAS chose, e.g. "SkylakeX" */
    const char *version; /* OpenBLAS's configuration string */
} didi_blas_info;

/* Sets one BLAS thread; call once, before any item, from one thread. The OpenMP flavour binds its
 * pool threads only by OMP_NUM_THREADS=1: then refused with DIDI_INVALID unless that is set. */
int didi_blas_use_one_thread(didi_error *error);

/* Maps the buffers that BLAS needs when `callers` threads call it at once; none is mapped later, so
 * none can be refused then. Once, before any item. Errors: DIDI_NO_MEMORY. */
int didi_blas_reserve(size_t callers, didi_error *error);
/* The kernel that OPENBLAS_CORETYPE should name, where OpenBLAS does not know the processor and
 * took one of two decades ago: several times slower, and 0.3.21's is not safe with threads. NULL:
 * that in force is as good, or the variable names it. */
const char *didi_blas_better_kernel(void);
/* The address space they take, in bytes; hardly any of it is ever resident. */
uint64_t didi_blas_bytes(size_t callers);
void didi_blas_describe(didi_blas_info *ret_info);

/* Version of the library ("0.1.0"). */
const char *didi_version(void);
