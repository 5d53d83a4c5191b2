/* SPDX-License-Identifier: Apache-2.0 */
/* Slurm's commands (22.05 and later), and what they print. */
#pragma once

#include "daemon/cluster/executor.h"

enum {
    SLURM_ID_BYTES = 12,
    SLURM_CHUNKS_MAX = 10, /* arrays of one order */
};

typedef struct slurm slurm;

/* Errors: DIDI_INVALID (a command is not there, slurm_arguments), DIDI_NO_MEMORY. */
int slurm_open(const cluster *of, slurm **ret_slurm, didi_error *error);
void slurm_close(slurm *self); /* NULL is fine */

/* Lengths of arrays are powers of ten, so that Slurm can write the names of logs: how many digits
 * an index has. Slurm is asked for MaxArraySize until it has answered once. */
size_t slurm_digits(slurm *self);

typedef struct slurm_job {
    const char *name;
    const char *array;  /* as --array takes it; NULL: one job */
    const char *output; /* file, with Slurm's own marks */
    const char *directory;
    size_t tasks, cores;   /* of one job, > 0; cores of each task */
    uint64_t memory_bytes; /* of a task; 0: none is asked for */
    const char *script;
    const tool_words *arguments; /* of the script */
} slurm_job;

/* Errors: as cluster_submit. */
int slurm_submit(slurm *self, const slurm_job *job, char ret_id[SLURM_ID_BYTES], didi_error *error);
/* Calls `row` for each job of this user, of any state, whose name is one of `names`, words with
 * commas. */
int slurm_list(slurm *self, const char *names,
               int (*row)(void *context, const char *name, const char *id, didi_error *error),
               void *context, didi_error *error);
/* Calls `row` for each task of the jobs `ids`, numbers with commas; `index` is "N/A" for what is no
 * array. None for jobs that Slurm knows no more. */
int slurm_look(slurm *self, const char *ids,
               int (*row)(void *context, const char *id, const char *index,
                          const cluster_task *task, didi_error *error),
               void *context, didi_error *error);
/* `ids` as words of their own; jobs that are gone are fine. */
int slurm_cancel(slurm *self, const char *const *ids, size_t count, didi_error *error);

/* A directory or file as --output takes it: Slurm's marks begin with '%'. Caller frees; NULL when
 * out of memory. */
char *slurm_escape(const char *path);

/* ---- words of Slurm ---- */

/* DIDI_UNAVAILABLE where what a command said on standard error passes by itself, else DIDI_CLUSTER.
 */
int slurm_judge(const char *said);
/* A task of these columns of squeue. */
void slurm_read_task(const char *state, const char *exit_code, const char *node, const char *reason,
                     cluster_task *ret_task);

/* Arrays of one order: task I is index I - K * 10^digits of the array of chunk K. */
typedef struct slurm_handle {
    size_t digits;
    size_t count;
    struct {
        size_t number; /* of the chunk, < SLURM_CHUNKS_MAX */
        char id[SLURM_ID_BYTES];
    } chunks[SLURM_CHUNKS_MAX];
} slurm_handle;

/* "17", or "3:0-17.1-18" where there are several or it is not the first chunk. */
bool slurm_handle_read(const char *text, slurm_handle *ret_handle);
void slurm_handle_print(const slurm_handle *self, char ret_text[CLUSTER_HANDLE_BYTES]);
