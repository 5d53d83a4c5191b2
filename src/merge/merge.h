/* SPDX-License-Identifier: Apache-2.0 */
/* What the engine keeps for itself of a merge. It knows rows of items, files and memory; what is
 * computed is the method's. */
#pragma once

#include "src/methods/method.h"
#include "src/work/work.h"

enum { MERGE_NAME_BYTES_MAX = 128 };

struct didi_item {
    didi_merge *merge;
    size_t row;
    size_t index;
    bool helper;
    bool away;    /* another process runs it */
    size_t epoch; /* of the threads, when a helper was sent */
    uint64_t memory;
    int status;
    didi_error error;
    struct timespec began, ended;
};

/* Rows in order: the digests, the method's stages, the files, the seal. */
typedef struct engine_row {
    enum { ROW_DIGEST, ROW_EACH, ROW_ONCE, ROW_WRITE, ROW_SEAL } kind;
    didi_stage told_as;
    double share;
    const method_stage *stage; /* EACH, ONCE */
    size_t number;             /* of the stage in its method */
    bool stores;               /* its snapshots hold what is published: named work.stored */
    /* Its last item looks at the tensors that no layer is: kept whole, passed through. */
    bool scans;
} engine_row;

struct didi_merge {
    work work;
    const didi_method *method;
    void *self; /* the method's own */

    char **strings; /* of work.options */
    size_t string_count;
    didi_task_input *tasks;
    didi_merge_hooks hooks;
    int output_fd;  /* parent of the artifacts */
    int package_fd; /* the artifacts' temporary directory, open from WRITE on */
    char package_name[MERGE_NAME_BYTES_MAX + 16];

    engine_row *rows;
    size_t row_count;
    size_t row;     /* in force; row_count at the end */
    uint64_t round; /* how often the merge went back to an earlier row */
    size_t item_count, items_running, helpers_running, away_running;
    uint64_t memory_running;
    int status; /* first failure */
    didi_error error;
    bool finished;
    bool foreseen, foretold; /* error against budget: written down, and told */
    int stage_announced;     /* -1 before the first */
    uint64_t bytes_counted;  /* of bytes_read, already put down to a stage */
    struct timespec began;
    char fingerprint[65]; /* SHA-256 of options and inputs: whose artifacts these are */
};

/* events.c */
void merge_emit(void *merge, const didi_event *event);
/* Tells of a stage the first time it is entered. */
void merge_announce(didi_merge *merge, didi_stage stage);
/* Items of the stage in force, over all its rows. */
void merge_stage_items(const didi_merge *merge, size_t *ret_done, size_t *ret_total);
double merge_seconds(const didi_merge *merge);
double merge_stage_seconds(const didi_merge *merge, didi_stage stage);

/* stages.c */
int merge_rows_create(didi_merge *merge, didi_error *error);
size_t merge_row_items(const didi_merge *merge, size_t row);
/* Enters `row`, or the next one that has something left to do; past the last the merge is done. */
void merge_enter_row(didi_merge *merge, size_t row);
int merge_run_item(didi_merge *merge, size_t row, size_t index, didi_error *error);
/* Takes up what an earlier attempt, another process or the merge this one starts from left of an
 * item; false: nothing, or nothing whole. */
bool merge_recall_item(didi_merge *merge, size_t row, size_t index);
void merge_fail(didi_merge *merge, int status, const didi_error *error);

/* options.c */
void merge_options_clear(didi_merge *merge);
int merge_options_copy(const didi_merge_options *options, didi_merge *merge, didi_error *error);
int merge_options_check(const didi_merge_options *options, const didi_method *method,
                        didi_error *error);
/* Options and input files as text, which the caller frees; NULL when out of memory. With `place`
 * (where the files are), two merges share it exactly when their layer states may be exchanged. */
char *merge_options_text(const didi_merge *merge, bool place);
/* SHA-256 of what decides the artifacts: the options, and name, size and time of every input file
 * (a copy that keeps the times is the same). */
int merge_options_digest(const didi_merge *merge, char ret_hex[65], didi_error *error);

/* plan.c */
/* Lists the tensors, and what the headers alone tell of them. Errors: DIDI_NO_MEMORY. */
int merge_plan_lists(didi_merge *merge, didi_error *error);
/* Memory, disk and work, by the method or from the size of its panels. Errors: DIDI_BUDGET,
 * DIDI_MEMORY_LIMIT with the figure needed, DIDI_NO_MEMORY. */
int merge_plan_make(didi_merge *merge, didi_error *error);
/* Memory an item takes; bytes. */
uint64_t merge_item_memory(const didi_merge *merge, size_t row, size_t index);

/* open.c */
/* The first file that differs between two texts of options and inputs: "label/name" of its line
 * "file label/name numbers", of which there are so many. False: what differs is no file. */
bool merge_name_changed_file(const char *old, const char *fresh, int numbers, char *name,
                             size_t size);

/* elsewhere.c */
/* Whether the item leaves a state, so that any process can run it. */
bool merge_leaves_state(const didi_merge *merge, size_t row, size_t index);
/* A worker's beginning, in place of taking the work directory over. Errors: DIDI_CHANGED (names the
 * file that is another than the owner's), DIDI_NOT_FOUND (nobody's directory), DIDI_IO. */
int merge_join(didi_merge *merge, didi_error *error);

/* items.c */
/* Position in the order of service -> index of the item. */
size_t merge_service_order(const didi_merge *merge, size_t position);
/* Gives one out. */
typedef enum item_kind { ITEM_HERE, ITEM_AWAY, ITEM_HELPER } item_kind;
didi_next merge_give_item(didi_merge *merge, size_t index, item_kind kind, didi_item **ret_item);
/* Bytes that items may still take, of what the caller grants. */
uint64_t merge_memory_left(const didi_merge *merge, uint64_t memory_available);

/* publish.c */
int merge_write_file(didi_merge *merge, size_t index, didi_error *error);
int merge_seal(didi_merge *merge, didi_error *error);
int merge_open_package(didi_merge *merge, didi_error *error);

/* manifest.c */
typedef struct published_file {
    char *name; /* in the package */
    uint64_t bytes;
    char digest[65];
} published_file;
/* Text of manifest.json; caller frees. */
int manifest_text(const didi_merge *merge, const published_file *files, size_t count,
                  char **ret_text, didi_error *error);
/* Writes what to expect of other budgets into the work directory (DIDI_OUTLOOK_FILE). */
int merge_save_outlook(const didi_merge *merge, didi_error *error);
/* Looks for the artifacts `name` in a directory: *ret_found tells whether there are any. Errors:
 * DIDI_CONFLICT when there are and their manifest has another fingerprint, DIDI_IO. */
int manifest_find(int directory_fd, const char *name, const char *fingerprint, bool *ret_found,
                  didi_error *error);
