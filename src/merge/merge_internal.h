/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the merge share; nobody else includes it. */
#pragma once

#include "src/budget/budget.h"
#include "src/extension/extension.h"
#include "src/layer/family.h"
#include "src/methods/didi/pursuit.h"
#include "src/package/package.h"

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
    PURSUIT_ROUNDS = 8, /* growing steps; then as many at the last threshold as below */
    PURSUIT_POLISH = 3,
    JOINT_ROUNDS = 6,
    WARM_ROUNDS = 2, /* at most, from blocks of an earlier merge, at the last threshold */
    FRONTIER_POINTS = 65,
    CURVE_POINTS = 33,
    MERGE_PRECISIONS = DIDI_PRECISION_AUTO + 1,
    MERGE_PASSES_MAX = 6, /* of refinement, for an error asked for */
    MERGE_NAME_BYTES_MAX = 128,
};

typedef enum item_state { ITEM_PENDING, ITEM_RUNNING, ITEM_DONE } item_state;

struct didi_item {
    didi_merge *merge;
    merge_phase phase;
    size_t index;
    bool helper;
    size_t epoch; /* of the threads, when a helper was sent */
    uint64_t memory;
    int status;
    didi_error error;
    struct timespec began, ended;
};

/* A tensor kept whole: what the scan found. */
typedef struct dense_summary {
    didi_dense form;  /* how it is kept: never AUTO */
    double *energy;   /* T: |delta_t|^2; 0 = nothing to store */
    double error;     /* sum over tasks of |stored - delta_t|^2: rounding, and what is left out */
    double own_error; /* the same if it were kept per task; a mean that may be dropped for it */
    unsigned *bits; /* T + 1 files: width in the file, where packed; 0 = nothing is stored there */
    double *unstored;     /* T: error of a task where nothing is stored of it */
    double *stored_error; /* T: |stored - delta_t|^2, measured when written */
} dense_summary;

/* What pursuit left of one layer, at the ranks of its last threshold. */
typedef struct pursued {
    double loss;       /* weighted */
    double error;      /* sum_t |tau_hat_t - tau_t|^2 */
    double floor;      /* loss if the warm rows beyond the ranks were taken too */
    double parameters; /* of the blocks */
} pursued;

/* A point of the curve of error against budget. */
typedef struct frontier_point {
    uint64_t parameters; /* of the factors */
    double error;        /* loss / weighted energy, predicted */
    bool from_blocks;    /* by pursuit's blocks; else by the spectra of the decomposition */
} frontier_point;

/* Error against bytes at one precision, by rising bytes. */
typedef struct precision_curve {
    size_t count;
    struct {
        uint64_t bytes;
        double error; /* loss / weighted energy, predicted */
    } points[CURVE_POINTS];
} precision_curve;

/* A pass of ranks and refinement on the way to an error asked for. */
typedef struct merge_pass {
    double scale; /* of the error the allocation aims at */
    double error; /* measured, relative */
    uint64_t bytes;
} merge_pass;

/* What a stage took: from its first item's begin to its last one's end, over all its threads. */
typedef struct stage_usage {
    struct timespec began, ended;
    bool ran;
    uint64_t bytes_read;
    atomic_ullong flops;       /* of float32 products */
    atomic_ullong cpu_ns;      /* of the threads that worked or helped */
    atomic_ullong peak_memory; /* as sampled, bytes */
} stage_usage;

/* What an earlier merge left for this one (merge_reuse.c). */
typedef struct reuse_source {
    bool spectra;        /* its decompositions fit */
    bool blocks;         /* what it pursued fits */
    size_t *index;       /* of each layer: number of its states there, or SIZE_MAX */
    char (*digests)[65]; /* of the input files, as taken then */
    bool *warm;          /* layers that start from its blocks; set by the schedule */
    double growth;       /* of the parameters, to those of its blocks */
    size_t rounds;       /* that these layers are pursued */
    double thresholds[WARM_ROUNDS];
    bool *same_place;     /* the very file, not a copy with its times: need not be read again */
    char fingerprint[65]; /* of that merge */
} reuse_source;

struct didi_merge {
    didi_merge_options options; /* deep copy; strings in `strings` */
    char **strings;
    size_t string_count;
    didi_task_input *tasks;
    double *task_weight;
    double *task_share; /* T: what the objective multiplies each task's weight by; mean 1 */
    didi_merge_hooks hooks;
    family *family;
    extension *extension; /* NULL: a merge of its own */
    didi_plan plan;
    parallel *parallel;
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
    uint64_t dense_stored;      /* parameters, after the scan */
    uint64_t factor_budget;     /* parameters */
    uint64_t factor_parameters; /* taken */
    uint64_t chosen_bytes;      /* of the files, at these; 0 = not known yet */
    uint64_t chosen_dense;      /* of chosen_bytes: tensors kept whole, headers */
    pursued *pursued;           /* of each layer; NULL unless it pursues */
    frontier_point *frontier;
    size_t frontier_count;
    precision_curve curves[MERGE_PRECISIONS];
    merge_pass passes[MERGE_PASSES_MAX];
    size_t pass, pass_count; /* in force; measured so far */

    reuse_source reuse;

    merge_phase phase;
    item_state *items; /* of the phase */
    size_t item_count, items_done, items_running, helpers_running;
    uint64_t memory_running;
    int status; /* first failure */
    didi_error error;
    bool finished;
    int stage_announced;                    /* -1 before the first */
    atomic_size_t steps_done, steps_wanted; /* inside the item of the allocate stage */
    stage_usage stages[DIDI_STAGE_COUNT];
    uint64_t bytes_counted; /* of bytes_read, already put down to a stage */
    struct timespec began;
    atomic_ullong peak_memory; /* bytes, as sampled */
    uint64_t published_bytes;  /* safetensors files */
    char fingerprint[65];      /* SHA-256 of options and inputs: whose artifacts these are */
};

/* merge_events.c */
void merge_emit(didi_merge *merge, const didi_event *event);
/* Tells of a stage the first time it is entered. */
void merge_announce(didi_merge *merge, didi_stage stage);
void merge_note(didi_merge *merge, didi_stage stage, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* One point of telemetry; NaN for what is not known. */
void merge_point(didi_merge *merge, didi_stage stage, uint64_t step, double loss,
                 double relative_error, double ratio);
/* The points of a layer that was pursued or refined: sums over the layers done so far. */
void merge_report_pursued(didi_merge *merge);
void merge_report_refined(didi_merge *merge);
didi_stage merge_phase_stage(merge_phase phase);
double merge_phase_share(merge_phase phase);
size_t merge_phase_items(const didi_merge *merge, merge_phase phase);
/* Items of the stage in force, over all its phases. */
void merge_stage_items(const didi_merge *merge, size_t *ret_done, size_t *ret_total);
double merge_seconds(const didi_merge *merge);
double merge_stage_seconds(const didi_merge *merge, didi_stage stage);
/* Notes how much anonymous memory the process holds now. */
void merge_sample_memory(didi_merge *merge);

/* merge_phase.c */
/* Enters `phase`, or the next one that has something left to do; past the last the merge is done.
 */
void merge_enter_phase(didi_merge *merge, merge_phase phase);
void merge_fail(didi_merge *merge, int status, const didi_error *error);
int merge_digest_file(didi_merge *merge, size_t index, didi_error *error);

/* merge_options.c */
void merge_options_clear(didi_merge *merge);
int merge_options_copy(const didi_merge_options *options, didi_merge *merge, didi_error *error);
int merge_options_check(const didi_merge_options *options, didi_error *error);
/* Text that two merges share exactly when their layer states may be exchanged; caller frees. */
char *merge_options_fingerprint(const didi_merge *merge);
/* SHA-256 of what decides the artifacts: the options, and name, size and time of every input file
 * (a copy that keeps the times is the same). */
int merge_options_digest(const didi_merge *merge, char ret_hex[65], didi_error *error);

/* merge_memory.c */
bool merge_needs_spectra(const didi_merge *merge);
bool merge_pursues(const didi_merge *merge);
/* True when ranks and widths are chosen together: the budget asks for it and the allocator can. */
bool merge_counts_bytes(const didi_merge *merge);
bool merge_is_of_layer(merge_phase phase);
/* How a layer is visited in a phase, and the bytes that takes. Depends on the shape, the limit, the
 * workers and (refining) the ranks; what is computed does not depend on it. */
typedef struct merge_visit {
    solve_visit how;
    uint64_t bytes;
} merge_visit;
merge_visit merge_visit_of(const didi_merge *merge, merge_phase phase, size_t index);
/* Memory an item takes; bytes. */
uint64_t merge_item_memory(const didi_merge *merge, merge_phase phase, size_t index);
/* After the limits of the layers are set. Errors: DIDI_MEMORY_LIMIT with the figure needed. */
int merge_plan_memory(didi_merge *merge, didi_error *error);

/* merge_plan.c */
int merge_plan_make(didi_merge *merge, didi_error *error);
/* merge_plan_budget.c */
void merge_plan_budget(didi_merge *merge);
/* Factors that a sketch is made wide enough for, as a ratio of one model's parameters. */
double merge_sketch_ratio(const didi_merge *merge);
/* `smallest`: parameters of the cheapest rank. */
int merge_plan_check_budget(didi_merge *merge, uint64_t smallest, didi_error *error);

/* merge_layer.c: items that work on one layer, and on the dense tensors */
int merge_decompose_layer(didi_merge *merge, size_t index, didi_error *error);
int merge_pursue_layer(didi_merge *merge, size_t index, didi_error *error);
int merge_refine_layer(didi_merge *merge, size_t index, didi_error *error);
/* Picks up the summary of a finished layer; DIDI_NOT_FOUND when there is none. */
int merge_recall_layer(didi_merge *merge, merge_phase phase, size_t index, didi_error *error);
/* The same from what an earlier merge pursued; DIDI_NOT_FOUND where there is none. */
int merge_recall_pursued(didi_merge *merge, size_t index, didi_error *error);
void merge_state_name(const didi_merge *merge, merge_phase phase, size_t index, char name[64]);

/* merge_load.c */
/* The weights of a layer whose energies are known. */
void merge_set_weights(didi_merge *merge, size_t index);
/* Opens a layer for a phase, loaded or streamed, with its weights set. */
int merge_load_layer(didi_merge *merge, merge_phase phase, size_t index, layer **ret_layer,
                     didi_error *error);
/* A streamed layer was read up to now: what was computed counts only if the files are the same.
 * Errors: DIDI_CHANGED, DIDI_IO. */
int merge_verify_streamed(const didi_merge *merge, const layer *layer, didi_error *error);

/* merge_similarity.c */
/* Saves the inner products of a loaded layer's task vectors: T x T, double. */
int merge_save_gram(didi_merge *merge, size_t index, const layer *target, didi_error *error);
void merge_gram_name(size_t index, char name[64]);

/* merge_dense.c */
/* True when file `index` (0 = shared, then the experts) holds a delta of this dense tensor. */
bool merge_holds_delta(const didi_merge *merge, size_t dense, size_t index);
/* The form a dense tensor starts in. `auto` keeps matrices for each task and vectors as their mean,
 * until merge_promote_dense finds room for more; in an extension what the package shares stays. */
didi_dense merge_dense_form(const didi_merge *merge, const family_tensor *tensor);
/* How often that form stores the tensor. */
uint64_t merge_dense_copies(const didi_merge *merge, const family_tensor *tensor);
/* What `mean` stores of a piece: sum over tasks / T, in `ret_mean`. */
void merge_mean_of(const double *sum, size_t tasks, uint64_t count, float *ret_mean);
/* Parameters stored of tensors kept whole: what the scan found zero is not. */
void merge_count_dense(didi_merge *merge);
int merge_scan_dense(didi_merge *merge, didi_error *error);
int merge_recall_dense(didi_merge *merge, didi_error *error);

/* merge_blocks.c: the blocks of all layers as the allocation sees them */
int merge_list_blocks(const didi_merge *merge, allocate_block **ret_blocks, size_t *ret_count,
                      didi_error *error);
/* |tau_t|^2 over all matrices: weighted and over all tasks, plain over all tasks, of one task. */
double merge_total_energy(const didi_merge *merge);
double merge_plain_energy(const didi_merge *merge);
double merge_task_energy(const didi_merge *merge, size_t task);
double merge_matrix_parameters(const didi_merge *merge);
/* Whole ranks under the budget, one global factor times real[i] (allocate_round). */
int merge_round_ranks(const didi_merge *merge, allocate_block *blocks, size_t count,
                      const double *real, didi_error *error);
int merge_uniform_ranks(const didi_merge *merge, allocate_block *blocks, size_t count,
                        didi_error *error);

/* merge_ratio.c */
/* What is stored when factors have so many parameters, in the unit that progress is told in: bytes
 * / bytes of the base's files for budgets in bytes, bytes / those of a model in 16 bits with
 * precision auto, else parameters / those of a model. What an extension keeps is included. */
double merge_ratio(const didi_merge *merge, double factors);
/* The budget in that unit; NaN where an error is asked for. */
double merge_ratio_target(const didi_merge *merge);

/* merge_objective.c */
/* `objective: worst_task`: sets task_share and every layer's weights so that the relative errors
 * which a greedy allocation of factor_budget leaves, predicted from the summaries, are alike. From
 * scratch, or from the shares in force. Nothing with `mean`. Errors: DIDI_NO_MEMORY. */
int merge_balance_tasks(didi_merge *merge, bool from_scratch, didi_error *error);

/* merge_promote.c */
/* `dense: auto`: vectors kept as their mean become deltas for each task where that lowers the
 * squared error more than the same numbers spent on the components `blocks` would take last. Spends
 * factor_budget, so dense_stored and it are then to be counted again. Errors: DIDI_NO_MEMORY. */
int merge_promote_dense(didi_merge *merge, allocate_block *blocks, size_t count, didi_error *error);

/* merge_frontier.c */
/* After a pursuit: weighted energy that the list of blocks holds twice, in rows of the shared
 * blocks beyond pursuit's ranks and in what the experts leave. */
double merge_counted_twice(const didi_merge *merge);
int merge_frontier_from_spectra(didi_merge *merge, const allocate_block *blocks, size_t count,
                                didi_error *error);
/* The lower of what the blocks of a pursuit and the spectra predict; after the above. */
int merge_frontier_from_blocks(didi_merge *merge, const allocate_block *blocks, size_t count,
                               didi_error *error);

/* merge_precision.c: ranks and widths together, for budgets that are not of parameters */
/* Thresholds of pursuit, or the ranks of the other allocators. */
int merge_schedule_bytes(didi_merge *merge, didi_error *error);
int merge_final_bytes(didi_merge *merge, didi_error *error);
/* errors[t]: the relative error predicted of each task's matrices under the budget. */
int merge_bytes_errors(didi_merge *merge, double *errors, didi_error *error);
/* Where pursuit would stop by the singular values known now (loss per parameter), and the
 * parameters of factors taken then. */
int merge_bytes_threshold(didi_merge *merge, double *ret_threshold, uint64_t *ret_parameters,
                          didi_error *error);
/* One width for everything, after ranks were found under a budget of parameters. */
void merge_set_fixed_widths(didi_merge *merge);
/* After a refinement: true when another pass is needed to come to the error asked for. */
int merge_judge_pass(didi_merge *merge, bool *ret_again, didi_error *error);
int merge_curves(didi_merge *merge, didi_error *error);

/* merge_learn.c: ranks by the differentiable truncation */
int merge_learn_ranks(didi_merge *merge, allocate_block *blocks, size_t count, didi_error *error);

/* merge_allocate.c: items that look at all layers */
int merge_schedule(didi_merge *merge, didi_error *error);
int merge_final_ranks(didi_merge *merge, didi_error *error);

/* merge_write_dense.c */
/* |stored - delta_t|^2 of a task and a tensor kept whole, once this is written. */
double merge_dense_error(const didi_merge *merge, size_t index, size_t task);

/* merge_layout.c */
/* Bytes of all safetensors files at the ranks and widths in force. */
int merge_package_bytes(const didi_merge *merge, uint64_t *ret_bytes, didi_error *error);

/* merge_reuse.c: what an earlier merge left. All of it is absent without reuse_fd. */
/* Reads what there is and compares the inputs; after the family is open and layers are sorted. */
int merge_reuse_open(didi_merge *merge, didi_error *error);
void merge_reuse_close(didi_merge *merge);
/* True when that merge may have left a fitting state of this layer: its number there. */
bool merge_reuse_find(const didi_merge *merge, merge_phase phase, size_t index, size_t *ret_old);
/* Links (or copies) a state of it into this merge's work directory. */
bool merge_reuse_take(const didi_merge *merge, const char *old_name, const char *name);
/* DIDI_CHANGED when an input's digest is not what it was. */
int merge_reuse_check_digest(const didi_merge *merge, size_t index, didi_error *error);
/* Leaves for later merges what they must know of this one; before its artifacts appear. */
int merge_reuse_write(const didi_merge *merge, didi_error *error);
/* The model of input file `index` (as digests count them) and the file's index in it. */
const checkpoint *merge_input_at(const didi_merge *merge, size_t index, size_t *ret_file);

/* merge_warm.c: finds the layers that start from an earlier merge's blocks, adopts their spectra
 * and sets the threshold they are pursued at. Part of the schedule. */
int merge_warm_schedule(didi_merge *merge, didi_error *error);

/* merge_publish.c */
int merge_write_file(didi_merge *merge, size_t index, didi_error *error);
int merge_seal(didi_merge *merge, didi_error *error);
int merge_open_package(didi_merge *merge, didi_error *error);

/* manifest.c: text of manifest.json; caller frees. */
int manifest_text(const didi_merge *merge, const char *const *file_names,
                  const uint64_t *file_bytes, const char (*file_digests)[65], size_t file_count,
                  char **ret_text, didi_error *error);
/* Looks for the artifacts `name` in a directory: *ret_found tells whether there are any. Errors:
 * DIDI_CONFLICT when there are and their manifest has another fingerprint, DIDI_IO. */
int manifest_find(int directory_fd, const char *name, const char *fingerprint, bool *ret_found,
                  didi_error *error);
