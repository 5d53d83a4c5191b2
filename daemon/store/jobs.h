/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of jobs: submitted, read, listed. */
#pragma once

#include "daemon/base/base.h"
#include "daemon/store/figures.h"
#include "proto/proto.h"
#include "src/base/base.h"

enum {
    STORE_PAGE_MAX = 1000,           /* rows a list gives at most */
    STORE_IDEMPOTENCY_KEY_MAX = 255, /* bytes */
};

typedef struct store store;

const char *job_state_name(job_state state);
bool job_state_parse(const char *name, job_state *ret_state);

typedef struct store_job {
    char id[ID_BYTES];
    job_state state;
    int priority;        /* higher first */
    char *name;          /* may be "" */
    char *base;          /* model name */
    char *specification; /* canonical JSON object; NULL in lists */
    char *labels;        /* JSON object of strings */
    char method[LIMIT_METHOD_NAME_BYTES + 1];
    uint64_t task_count;
    char *budget;     /* JSON; NULL where the specification has none */
    char dtype[16];   /* of the output; "" where the specification has none */
    unsigned attempt; /* counts runs begun; 0 before the first */
    bool cancel_requested;
    char stage[16];      /* name of the stage in force, "" outside running */
    double progress;     /* 0 .. 1 */
    char *error_status;  /* didi_status_name, NULL when there is none */
    char *error_subject; /* may be NULL */
    char *error_message; /* may be NULL */
    int64_t created_ms, updated_ms;
    int64_t started_ms, finished_ms; /* 0 = not yet */
    int64_t event_count;             /* number of the last event; 0 for none */
    char from_job[ID_BYTES];         /* whose spectra it starts from; "" for none */
    uint64_t kept_bytes;             /* spectra and bases kept for others; 0 for none */
    bool survey;
    store_result result;
    int64_t ends_ms;               /* expected of a running one; 0 = not known */
    char traceparent[TRACE_BYTES]; /* of who submitted it, as trace_read gives it; "" for none */
    char bakeoff[ID_BYTES];        /* that it is a member of; "" for none */
} store_job;

/* Frees what it holds and zeroes it. */
void store_job_clear(store_job *job);
void store_jobs_free(store_job *jobs, size_t count);

typedef struct store_submission {
    const char *name, *base, *specification, *labels; /* as in store_job */
    int priority;
    size_t active_max;       /* refused with DIDI_CONFLICT when so many are unfinished; 0: none */
    uint64_t artifact_bytes; /* of the job's artifacts, at most */
    uint64_t artifact_bytes_max; /* of all jobs' together; 0: none; see store_artifacts_over */
    const char *from_job;        /* NULL for none; must have succeeded and keep its spectra */
    const char *bakeoff;         /* that it is a member of; NULL for none */
    const char *traceparent, *idempotency_key; /* NULL for none; keys are scoped to jobs */
    const char *body_digest;                   /* hex SHA-256 of the request body; with a key */
} store_submission;

typedef enum store_submit_outcome {
    STORE_SUBMIT_CREATED,
    STORE_SUBMIT_REPLAYED,   /* same key, same body: ret_id is the job of then */
    STORE_SUBMIT_KEY_REUSED, /* same key, other body: nothing was done */
} store_submit_outcome;

/* Accepts a job: on disk when this returns 0. Errors: DIDI_NOT_FOUND with the subject "/from_job"
 * when there is nothing to start from (and what is there stays while the new job is unfinished). */
int store_job_submit(store *self, const store_submission *submission, char ret_id[ID_BYTES],
                     store_submit_outcome *ret_outcome, didi_error *error);

/* What a submission with an idempotency key would be answered with if the key is known; *ret_found
 * is false and the others untouched when it is new. Writes nothing. */
int store_job_find_submission(store *self, const store_submission *submission, bool *ret_found,
                              char ret_id[ID_BYTES], store_submit_outcome *ret_outcome,
                              didi_error *error);

/* Says that no job has this id: DIDI_NOT_FOUND. */
int store_job_unknown(const char *id, didi_error *error);

/* DIDI_NOT_FOUND when there is none. Caller clears *ret_job. */
int store_job_get(store *self, const char *id, store_job *ret_job, didi_error *error);

typedef struct store_job_filter {
    const job_state *state;              /* NULL = any */
    const char *method;                  /* NULL = any */
    const char *label_key, *label_value; /* both NULL = any */
    const char *before_id;               /* NULL = from the newest; else ids below this one */
} store_job_filter;

/* Newest first, at most `limit` (1 .. STORE_PAGE_MAX), without specifications. Takes time in
 * proportion to what it gives. Caller frees with store_jobs_free. */
int store_job_list(store *self, const store_job_filter *filter, size_t limit, store_job **ret_jobs,
                   size_t *ret_count, bool *ret_more, didi_error *error);

/* Ids of jobs in a state, above `after` ("" for all), ascending, at most `limit`. Caller frees
 * *ret_ids with free(). */
int store_job_ids(store *self, job_state state, const char *after, size_t limit,
                  char (**ret_ids)[ID_BYTES], size_t *ret_count, didi_error *error);

typedef enum store_knowledge {
    STORE_JOB_UNKNOWN,
    STORE_JOB_KNOWN,
    STORE_JOB_DELETED, /* and its files are to go */
} store_knowledge;

/* What the store knows of a job of this id, which may be any text. */
int store_job_known(store *self, const char *id, store_knowledge *ret_known, didi_error *error);

/* The oldest finished job that may be deleted: it ended before `before_ms`, or there are more than
 * `most` finished ones (0: no limit); it has no label `keep`, and no unfinished job or export needs
 * it. */
int store_job_to_expire(store *self, int64_t before_ms, uint64_t most, char ret_id[ID_BYTES],
                        bool *ret_found, didi_error *error);

/* Calls visit for running jobs that were asked to be cancelled. Before store_boot: those that an
 * interrupted process left. */
int store_each_cancelled_run(store *self, int (*visit)(void *context, const char *id),
                             void *context, didi_error *error);

/* Calls visit for deleted jobs whose files may still be there, and forgets one whose files are
 * gone. */
int store_each_deleted_job(store *self, int (*visit)(void *context, const char *id), void *context,
                           didi_error *error);
void store_deleted_job_forget(store *self, const char *id);

/* A job that is known by the files of its results alone. */
typedef struct store_rebuilt_job {
    const char *id;
    const char *name, *base, *specification, *labels; /* as in store_job */
    int priority;
    int64_t created_ms, started_ms, finished_ms;
    const char *note; /* one line, its last event */
    store_result result;
} store_rebuilt_job;

/* Inserts it as succeeded. DIDI_CONFLICT where a job has the id. */
int store_job_rebuild(store *self, const store_rebuilt_job *job, didi_error *error);
