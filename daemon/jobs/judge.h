/* SPDX-License-Identifier: Apache-2.0 */
/* Tasks of a package, and whole models, scored by the operator's scorer: one model at a time lies
 * on disk. */
#pragma once

#include "daemon/models/models.h"
#include "daemon/score/score.h"

/* Nothing is taken. */
typedef struct judge {
    const scorer *scorer;
    const char *split; /* may be NULL */
    const model_roots *roots;
    const char *base; /* of the package */
    uint64_t max_shard_bytes;
    int artifact_fd;    /* of the package */
    int holder_fd;      /* models are made below it, and are gone when a function returns */
    const char *holder; /* its path */
    int (*cancelled)(void *context);
    void *context;
} judge;

/* Exports the task as a whole model and scores it; `verify`: whether the base is still the one that
 * was merged. Errors: those of export_task and scorer_run. On a pool thread. */
int judge_task(const judge *self, const char *task, bool verify, double *ret_score,
               didi_error *error);

/* Scores a copy of a model of the roots. Errors: those of score_copy_model and scorer_run.
 * Likewise.
 */
int judge_model(const judge *self, const char *model, const char *task, double *ret_score,
                didi_error *error);
