/* SPDX-License-Identifier: Apache-2.0 */
/* The tasks of a finished merge scored, beside their own fine-tunes and the base. */
#pragma once

#include "daemon/foreground/display.h"
#include "daemon/models/models.h"
#include "daemon/score/score.h"
#include "proto/proto.h"

/* Nothing is taken. */
typedef struct scoring {
    const scorer *scorer;
    const char *command, *split; /* as given; `split` may be NULL */
    const model_roots *roots;
    const specification *specification;
    uint64_t max_shard_bytes;
    int artifact_fd;    /* of the package */
    int holder_fd;      /* models are made below it, and are gone when it returns */
    const char *holder; /* its path */
    json_t *known;      /* {task: {"base", "own"}} on this split; what lacks is added */
    display *display;
    int (*cancelled)(void *context);
    void *context;
} scoring;

/* Scores every task: {"scorer", "split", "tasks": [{"task", "error", "score", "base", "own",
 * "kept"}], "mean", "worst"}; null where something has no score: the base where the scorer refuses
 * it, a fine-tune that is an adapter. The caller releases *ret_scores. Errors: those of
 * export_task, scorer_run and score_copy_model. On a pool thread. */
int scoring_run(const scoring *self, json_t **ret_scores, didi_error *error);

/* Figures without data of every task: {task: {"cosine", "length", "error", "worst",
 * "worst_error"}}, null for what has none and for adapters. `scorer` is not used. The caller
 * releases *ret_proxies. Errors: those of score_measure. On a pool thread. */
int scoring_measure(const scoring *self, json_t **ret_proxies, didi_error *error);

/* As "tuned" into the scores of what a tuning chose, with "tuned_on_this_split" of their split.
 * `tuned` is taken, NULL where memory ran out. Errors: DIDI_NO_MEMORY. */
int scoring_add_tuned(json_t *scores, json_t *tuned, didi_error *error);

/* Writes them as scores.json into the package. Errors: those of file_write_durable. */
int scoring_write(int artifact_fd, const json_t *scores, didi_error *error);

/* Prints them as tables: the scores, where there are any, and "proxies". */
void scoring_print(json_t *scores);
