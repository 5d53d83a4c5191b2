/* SPDX-License-Identifier: Apache-2.0 */
/* One request to S3 with its answer. Internal to the room. */
#pragma once

#include "daemon/s3/client.h"
#include "daemon/s3/credentials.h"
#include "daemon/s3/sign.h"

#include <curl/curl.h>
#include <pthread.h>

enum { S3_IDLE_MAX = 8 /* connections that wait for the next request */ };

struct s3 {
    s3_rules rules; /* with texts of its own */
    char *scheme, *authority;
    pthread_mutex_t lock; /* guards what follows */
    CURL *idle[S3_IDLE_MAX];
    size_t idle_count;
    credentials known;
    bool has_known;
};

typedef struct s3_call {
    const s3_object *object;
    const char *method;
    const char *query;                     /* encoded and sorted by name; "" for none */
    bool on_bucket;                        /* the path has no key */
    bool may_fail_late;                    /* a 200 may hold a failure */
    sign_header headers[SIGN_HEADERS_MAX]; /* sorted by name; signed */
    size_t header_count;
    const s3_body *body; /* NULL for none */
    const char *text;    /* a body in memory; NULL for none */
    /* A read of a range: */
    char *buffer; /* NULL: the answer is a document */
    size_t room;
    uint64_t offset;
    const char *etag; /* that it must have; NULL: any */
    /* The answer: */
    long status;
    s3_facts facts;
    size_t used;    /* of the buffer */
    char *document; /* NUL-terminated; freed by s3_call_clear */
    size_t document_bytes;
} s3_call;

/* Asks until there is an answer that stands. The document of a success is the caller's to clear. */
int s3_call_run(s3 *self, s3_call *call, didi_error *error);
void s3_call_clear(s3_call *call);

/* Adds a header at its place; both are kept. */
void s3_call_header(s3_call *call, const char *name, const char *value);

/* "HOST[:PORT]", and the encoded path; the caller frees both. False: no memory. */
bool s3_place_of(const s3 *self, const s3_object *object, bool on_bucket, char **ret_host,
                 char **ret_path);

/* The credentials to sign with. `refused`: those that a server did not take, read anew unless
 * others are known already; NULL for none. */
int s3_credentials(s3 *self, const credentials *refused, credentials *ret_credentials,
                   didi_error *error);
