/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of hooks share. Included by them alone. */
#pragma once

#include "daemon/hooks/hooks.h"

#include <pthread.h>
#include <stdatomic.h>

struct hooks {
    const config *settings;
    store *records;
    registry *models;
    fetcher *fetches;
    hooks_service service;
    char *hub_token, *mlflow_token;
    transfer *hub, *mlflow; /* of the thread that asks; NULL where not configured */
    pthread_t working, asking;
    bool works, asks;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t arrived;
    bool has_work, has_questions;
    failures failed;
    atomic_bool stopping;
};

/* An event, however it was heard of. */
typedef struct hooks_news {
    const char *hook;       /* its name */
    const json_t *document; /* and what it says */
    const hook_event *event;
    const hook_message *message; /* for conditions on headers */
    const char *origin;          /* "webhook", "poll" */
    int64_t since_ms;            /* see store_arrival */
} hooks_news;

/* Notes it, and what the rules say of it. */
int hooks_note(hooks *self, const hooks_news *news, char ret_id[ID_BYTES], bool *ret_repeated,
               didi_error *error);

/* ---- poll.c: what is asked of registries; at most one request at a time ---- */

/* Polls what is due. */
void poll_due(hooks *self);

/* GET (body NULL) or POST at base + path; *ret_answer is an object. Takes the body. Errors: those
 * of transfer_run, DIDI_FORMAT; DIDI_INVALID also where it was answered with 400. */
int poll_ask(transfer *through, const char *base, const char *path, json_t *body,
             json_t **ret_answer, didi_error *error);

/* `text` as part of a query. Caller frees; NULL: no memory. */
char *poll_escape(const char *text);

/* ---- mlflow.c ---- */

/* Registers what is due. */
void register_due(hooks *self);
