/* SPDX-License-Identifier: Apache-2.0 */
/* What a method is given to work with: the inputs, the options, and what is known of each tensor.
 * The engine (src/merge) fills it and keeps it; a method (src/methods) reads it, and writes what it
 * finds out of a tensor to that tensor's summary. */
#pragma once

#include "src/didi.h"
#include "src/extension/extension.h"
#include "src/layer/layer.h"
#include "src/work/summary.h"

#include <stdatomic.h>
#include <time.h>

/* What a stage took: from its first item's begin to its last one's end, over all its threads. */
typedef struct stage_usage {
    struct timespec began, ended;
    bool ran;
    uint64_t bytes_read;
    atomic_ullong flops;       /* of float32 products */
    atomic_ullong cpu_ns;      /* of the threads that worked or helped */
    atomic_ullong peak_memory; /* as sampled, bytes */
} stage_usage;

typedef enum item_state { ITEM_PENDING, ITEM_RUNNING, ITEM_DONE } item_state;

typedef struct reuse_source reuse_source; /* what an earlier merge left (reuse.h) */
typedef struct own_twin own_twin;

typedef struct work {
    didi_merge_options options; /* pointers live as long as the work; work_fd is open */
    double *task_weight;        /* T */
    didi_plan plan;
    family *family;
    extension *extension; /* NULL: a merge of its own */
    bool shared;          /* a shared part is made */
    bool one_model;       /* the method's answer is one model for all tasks */

    size_t layer_count; /* tensors that the method works on, by name */
    const family_tensor **layers;
    size_t *layer_order;      /* heaviest first */
    layer_summary *summaries; /* of each */
    size_t dense_count;       /* tensors that the engine keeps whole, by name */
    const family_tensor **dense;
    dense_summary *dense_summaries;
    char stored[32]; /* first part of the names of the snapshots that hold what is published */

    size_t digest_count; /* input files */
    char (*digests)[65];
    char **same;     /* of each: compare.h */
    own_twin *twins; /* twins.h */
    size_t twin_count;
    reuse_source *reuse; /* NULL: starts from nothing */

    parallel *parallel;
    atomic_bool cancelled;
    atomic_ullong bytes_read;

    /* Telemetry. */
    void *engine;
    void (*emit)(void *engine, const didi_event *event); /* any thread */
    didi_stage stage;                                    /* in force */
    item_state *items;                                   /* of the row in force */
    size_t items_done;
    double ratio_target; /* in the unit of the method's ratios; NaN where there is none */
    atomic_size_t steps_done, steps_wanted; /* inside the only item of a row; 0: not told */
    stage_usage usage[DIDI_STAGE_COUNT];
    atomic_ullong peak_memory; /* bytes, as sampled */
    uint64_t published_bytes;  /* safetensors files */
} work;

/* "prefix-00012.state": the snapshot that a stage leaves of a tensor. */
void work_snapshot_name(const char *prefix, size_t index, char name[64]);
/* A table of numbers as a snapshot of its own, under its name there. Errors: those of a snapshot;
 * reading, DIDI_FORMAT where it has another size. */
int work_save_table(const work *self, const char *file, const char *name, size_t rows,
                    size_t columns, const double *table, didi_error *error);
int work_read_table(const work *self, const char *file, const char *name, size_t rows,
                    size_t columns, double *ret_table, didi_error *error);

/* ---- telemetry ---- */

/* A line that an operator may want. [any thread] */
void work_note(work *self, didi_stage stage, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* One point of telemetry; NaN for what is not known. [any thread] */
void work_point(work *self, didi_stage stage, uint64_t step, double loss, double relative_error,
                double ratio);
/* Notes how much anonymous memory the process holds now. [any thread] */
void work_sample_memory(work *self);

/* ---- tensors ---- */

/* How a layer is opened: its task vectors read panel by panel or held in memory, factors in memory
 * or on disk (spilled), and how many experts are updated at once. `whole`: task vectors of low rank
 * are matrices too (else factors, see family_create_factored). */
typedef struct work_mode {
    bool streamed, spilled;
    uint64_t lanes;
    bool whole;
} work_mode;

/* Opens the task vectors of a layer. `first`: energies are measured and the tasks' inner products
 * saved; later openings remember them. Where a package is extended, what it shares is taken away.
 * The caller sets weights, and frees. Errors: DIDI_CHANGED (an input), DIDI_NUMERIC, DIDI_IO,
 * DIDI_CANCELLED, DIDI_NO_MEMORY. */
int work_open_layer(work *self, size_t index, const work_mode *how, bool first, layer **ret_layer,
                    didi_error *error);
/* A streamed layer was read up to now: what was computed counts only if the files are the same.
 * Errors: DIDI_CHANGED, DIDI_IO. */
int work_verify_streamed(const work *self, const layer *layer, didi_error *error);
/* The first layer after this one and the workers' others, in the order of service; SIZE_MAX for
 * none. Reading it ahead (family_will_need) hides the disk. */
size_t work_layer_ahead(const work *self, size_t index);

/* What a package stores of a tensor: file 0 is shared, file t + 1 the expert of task t. */
stored_tensor stored_tensor_of(const family_tensor *tensor);
stored_part stored_part_of(const layer_summary *summary, size_t file);
/* Bytes of all safetensors files at the ranks and widths in force. Errors: DIDI_NO_MEMORY. */
int work_package_bytes(const work *self, uint64_t *ret_bytes, didi_error *error);
/* The layout of one file. Errors: DIDI_NO_MEMORY. The caller clears it. */
int work_file_layout(const work *self, size_t file, package_layout *ret_layout, didi_error *error);

/* A task whose tensors all equal the base's has nothing to merge: most likely a mistake. Errors:
 * DIDI_MISMATCH naming it. */
int work_check_tasks_differ(const work *self, didi_error *error);

/* |tau_t|^2 over all layers: weighted and over all tasks, plain over all tasks, of one task. */
double work_weighted_energy(const work *self);
double work_energy(const work *self);
double work_task_energy(const work *self, size_t task);
/* Parameters of one model's layers. */
double work_matrix_parameters(const work *self);
/* Of all parameters of one model. */
double work_share_of_model(const work *self, uint64_t parameters);
/* Bytes all files of the base have: what a bytes_ratio is a ratio to. */
uint64_t work_base_bytes(const work *self);
/* Bytes of all input files. */
uint64_t work_input_bytes(const work *self);
/* How many there are, the model of file `index` (as digests count), and the file's index in it. */
size_t work_input_count(const work *self);
const checkpoint *work_input_at(const work *self, size_t index, size_t *ret_file);

#include "src/work/compare.h"
#include "src/work/dense.h"
#include "src/work/figures.h"
#include "src/work/own.h"
#include "src/work/reuse.h"
#include "src/work/similarity.h"
#include "src/work/twins.h"
