/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the merge share; nobody else includes it. */
#pragma once

#include "src/family.h"
#include "src/solve.h"

#include <stdatomic.h>
#include <time.h>

/* Phases in order: id, public stage, share of the work for progress. */
#define MERGE_PHASE_TABLE(X)                                                                       \
    X(DIGEST, DIGEST, 5)                                                                           \
    X(DECOMPOSE, DECOMPOSE, 15)                                                                    \
    X(SCHEDULE, ALLOCATE, 5)                                                                       \
    X(PURSUE, PURSUE, 45)                                                                          \
    X(RANKS, PURSUE, 1)                                                                            \
    X(REFINE, REFINE, 25)                                                                          \
    X(WRITE, PUBLISH, 3)                                                                           \
    X(SEAL, PUBLISH, 1)

typedef enum merge_phase {
#define MERGE_PHASE_ENUMERATOR(id, stage, share) PHASE_##id,
    MERGE_PHASE_TABLE(MERGE_PHASE_ENUMERATOR)
#undef MERGE_PHASE_ENUMERATOR
        PHASE_COUNT
} merge_phase;

enum {
    PURSUIT_ROUNDS = 4, /* growing steps; then as many at the last threshold as below */
    PURSUIT_POLISH = 4,
    JOINT_ROUNDS = 6,
    FRONTIER_POINTS = 65,
    MERGE_NAME_BYTES_MAX = 128,
};

typedef enum item_state { ITEM_PENDING, ITEM_RUNNING, ITEM_DONE } item_state;

struct didi_item {
    didi_merge *merge;
    merge_phase phase;
    size_t index;
    bool helper;
    uint64_t memory;
    int status;
    didi_error error;
    struct timespec began, ended;
};

/* A tensor kept whole: what the scan found. */
typedef struct dense_summary {
    double *energy; /* T: |delta_t|^2; 0 = nothing to store */
    double error;   /* sum over tasks of what `mean` and `base` leave out */
    bool scanned;
} dense_summary;

struct didi_merge {
    didi_merge_options options; /* deep copy; strings in `strings` */
    char **strings;
    size_t string_count;
    didi_task_input *tasks;
    double *task_weight;
    didi_merge_hooks hooks;
    family *family;
    didi_plan plan;
    team *team;
    atomic_bool cancelled;
    atomic_ullong bytes_read;
    int output_fd;  /* parent of the artifacts */
    int package_fd; /* the artifacts' temporary directory, open from WRITE on */
    char package_name[MERGE_NAME_BYTES_MAX + 16];
    bool shared; /* a shared part takes part */

    size_t layer_count;
    const family_tensor **layers; /* matrices by name */
    size_t *layer_order;          /* heaviest first */
    layer_summary *summaries;
    solve_limits *limits;
    size_t dense_count;
    const family_tensor **dense; /* by name */
    dense_summary *dense_summaries;
    size_t passthrough_count;
    size_t digest_count; /* input files */
    char (*digests)[65];

    double thresholds[PURSUIT_ROUNDS + PURSUIT_POLISH + JOINT_ROUNDS];
    size_t rounds;
    uint64_t dense_stored;     /* parameters, after the scan */
    uint64_t factor_budget;    /* parameters */
    uint64_t factor_parameters; /* taken */
    struct allocate_point *frontier;
    size_t frontier_count;
    double frontier_scale; /* loss to relative error */

    merge_phase phase;
    item_state *items; /* of the phase */
    size_t item_count, items_done, items_running, helpers_running;
    uint64_t memory_running;
    int status; /* first failure */
    didi_error error;
    bool finished;
    double phase_seconds[PHASE_COUNT];
    struct timespec began;
    uint64_t peak_memory;
    uint64_t published_bytes; /* safetensors files */
    uint64_t published_files_bytes;
};

/* merge_options.c */
void merge_options_clear(didi_merge *merge);
int merge_options_copy(const didi_merge_options *options, didi_merge *merge, didi_error *error);
int merge_options_check(const didi_merge_options *options, didi_error *error);
/* Text that two merges share exactly when their layer states may be exchanged; caller frees. */
char *merge_options_fingerprint(const didi_merge *merge);

/* merge_plan.c */
int merge_plan_make(didi_merge *merge, didi_error *error);
uint64_t merge_layer_memory(const didi_merge *merge, size_t index);
bool merge_needs_spectra(const didi_merge *merge);
bool merge_pursues(const didi_merge *merge);

/* merge_layer.c: items that work on one layer, and on the dense tensors */
int merge_decompose_layer(didi_merge *merge, size_t index, didi_error *error);
int merge_pursue_layer(didi_merge *merge, size_t index, didi_error *error);
int merge_refine_layer(didi_merge *merge, size_t index, didi_error *error);
/* Picks up the summary of a finished layer; DIDI_NOT_FOUND when there is none. */
int merge_recall_layer(didi_merge *merge, merge_phase phase, size_t index, didi_error *error);
void merge_state_name(merge_phase phase, size_t index, char name[64]);
/* Opens and loads a layer's task vectors with weights set. */
int merge_load_layer(didi_merge *merge, size_t index, layer **ret_layer, didi_error *error);

/* merge_dense.c */
int merge_scan_dense(didi_merge *merge, didi_error *error);
int merge_recall_dense(didi_merge *merge, didi_error *error);

/* merge_allocate.c: items that look at all layers */
int merge_schedule(didi_merge *merge, didi_error *error);
int merge_final_ranks(didi_merge *merge, didi_error *error);

/* merge_publish.c */
int merge_write_file(didi_merge *merge, size_t index, didi_error *error);
int merge_seal(didi_merge *merge, didi_error *error);
int merge_open_package(didi_merge *merge, didi_error *error);

/* manifest.c: text of manifest.json; caller frees. */
int manifest_text(const didi_merge *merge, const char *const *file_names,
                  const uint64_t *file_bytes, const char (*file_digests)[65], size_t file_count,
                  char **ret_text, didi_error *error);

/* merge.c */
void merge_emit(didi_merge *merge, const didi_event *event);
void merge_note(didi_merge *merge, didi_stage stage, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
double merge_seconds(const didi_merge *merge);
didi_stage merge_phase_stage(merge_phase phase);
/* One point of telemetry; NaN for what is not known. */
void merge_point(didi_merge *merge, didi_stage stage, uint64_t step, double loss,
                 double relative_error, double ratio);
