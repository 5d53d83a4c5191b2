/* SPDX-License-Identifier: Apache-2.0 */
/* Bake-offs, their members and what a scorer said of them. A member is an ordinary job; what it
 * gave is copied to its row when it ends. */
#pragma once

#include "daemon/store/jobs.h"

enum { STORE_BAKEOFFS_KEPT_MAX = 1000 }; /* that ended */

const char *member_role_name(member_role role);

typedef struct store_bakeoff {
    char id[ID_BYTES];
    char *name;    /* may be "" */
    char *request; /* JSON object */
    job_state state;
    bool sized;           /* didi's members are there */
    bool scored;          /* a scorer judges its members */
    uint64_t model_bytes; /* of one model in 16 bits */
    bool cancel_requested;
    char *error_status, *error_message; /* NULL when there is none */
    int64_t created_ms, updated_ms, finished_ms;
    uint64_t members, ended;
} store_bakeoff;
void store_bakeoff_clear(store_bakeoff *bakeoff);
void store_bakeoffs_free(store_bakeoff *bakeoffs, size_t count);

typedef struct store_member {
    uint64_t number; /* from 0, without holes */
    member_role role;
    char *label, *method;
    char *options;         /* JSON object */
    char job_id[ID_BYTES]; /* "": refused, and of the base */
    char state[16];        /* of its job, or "refused" */
    bool ended, has_job;   /* recorded; the job has not been deleted */
    double progress;
    store_result result; /* without artifact_bytes */
    int64_t run_ms;
    char *error_status, *error_message; /* NULL when there is none */
    uint64_t kept_bytes;                /* that others may start from */
} store_member;
void store_members_free(store_member *members, size_t count);

typedef struct store_score {
    uint64_t number; /* of the member */
    char *task;
    double score;          /* NaN: there is none */
    double cosine, length; /* where no scorer judges: as of proxies_measure; else NaN */
    char *error;           /* why there is neither; NULL where there is */
    int64_t run_ms;
} store_score;
void store_scores_free(store_score *scores, size_t count);

typedef struct store_new_member {
    member_role role;
    const char *label, *method, *options;
    const didi_error *refused; /* why it has no job; else NULL */
    store_submission job;      /* not of the base */
} store_new_member;

typedef struct store_new_bakeoff {
    const char *name, *request;
    bool scored;
    uint64_t model_bytes;
    const store_new_member *members;
    size_t member_count;
    const char *idempotency_key, *body_digest; /* as in store_submission */
} store_new_bakeoff;

/* Accepts a bake-off and the jobs of its members in one transaction. Errors: those of
 * store_job_submit. */
int store_bakeoff_create(store *self, const store_new_bakeoff *made, char ret_id[ID_BYTES],
                         store_submit_outcome *ret_outcome, didi_error *error);

/* As store_job_find_submission. */
int store_bakeoff_find_submission(store *self, const store_submission *submission, bool *ret_found,
                                  char ret_id[ID_BYTES], store_submit_outcome *ret_outcome,
                                  didi_error *error);

/* Adds didi's members, once. DIDI_CONFLICT: they are there, or the bake-off ends. */
int store_bakeoff_size(store *self, const char *id, const store_new_member *members, size_t count,
                       didi_error *error);

/* Errors: DIDI_NOT_FOUND. */
int store_bakeoff_get(store *self, const char *id, store_bakeoff *ret_bakeoff, didi_error *error);
/* Newest first, those before the id `before` (NULL: all). */
int store_bakeoff_list(store *self, const char *before, size_t limit, store_bakeoff **ret_bakeoffs,
                       size_t *ret_count, bool *ret_more, didi_error *error);
/* Ids of unfinished ones above `after` ("" for all), ascending. Caller frees with free(). */
int store_bakeoff_unfinished(store *self, const char *after, size_t limit,
                             char (**ret_ids)[ID_BYTES], size_t *ret_count, didi_error *error);
/* By number. */
int store_bakeoff_members(store *self, const char *id, store_member **ret_members,
                          size_t *ret_count, didi_error *error);
/* By member and task. */
int store_bakeoff_scores(store *self, const char *id, store_score **ret_scores, size_t *ret_count,
                         didi_error *error);

/* Copies what jobs that ended gave to their members. */
int store_bakeoff_record(store *self, const char *id, didi_error *error);
/* Replaces an earlier one of the same member and task. */
int store_bakeoff_score(store *self, const char *id, const store_score *score, didi_error *error);
/* An unfinished one comes to another state; `why` may be NULL. */
int store_bakeoff_move(store *self, const char *id, job_state state, const didi_error *why,
                       didi_error *error);
/* Asks it to end, and its jobs to be cancelled. DIDI_NOT_FOUND; DIDI_CONFLICT if it has ended. */
int store_bakeoff_cancel(store *self, const char *id, didi_error *error);
/* DIDI_NOT_FOUND; DIDI_CONFLICT if it has not ended. */
int store_bakeoff_delete(store *self, const char *id, didi_error *error);
