/* SPDX-License-Identifier: Apache-2.0 */
/* Signatures of requests to S3: AWS Signature Version 4, in headers and in URLs. libcurl 7.88 signs
 * headers alone, and neither sorts a query nor takes the digest of a body from elsewhere. */
#pragma once

#include "src/base/base.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    SIGN_TIME_BYTES = 17,      /* "20130524T000000Z" and NUL */
    SIGN_HEADERS_MAX = 12,     /* that a request may carry */
    SIGN_SECONDS_MAX = 604800, /* that a signed URL may be good for */
};

/* SHA-256 of no bytes, and what stands for the digest of a body that is not signed. */
#define SIGN_EMPTY_SHA256 "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define SIGN_UNSIGNED "UNSIGNED-PAYLOAD"

typedef struct sign_key {
    const char *id, *secret;
    const char *token;  /* of temporary credentials; NULL for none */
    const char *region; /* "us-east-1" */
} sign_key;

typedef struct sign_header {
    const char *name; /* lower case */
    const char *value;
} sign_header;

typedef struct sign_request {
    const char *method, *host;  /* HOST or HOST:PORT, as in the header */
    const char *path;           /* encoded; begins with a slash */
    const char *query;          /* "name=value&..." encoded and sorted by name; "" for none */
    const char *sha256;         /* of the body, in hex */
    const sign_header *headers; /* more, sorted by name; none that is named here */
    size_t header_count;
} sign_request;

/* The time as signatures have it. */
void sign_time(int64_t seconds, char ret_time[SIGN_TIME_BYTES]);

/* The value of the Authorization header. The request must carry `host`, `x-amz-content-sha256`,
 * `x-amz-date` (`time`), with a token `x-amz-security-token`, and the headers above. The caller
 * frees. Errors: DIDI_NO_MEMORY, DIDI_INTERNAL. */
int sign_authorization(const sign_key *key, const sign_request *request,
                       const char time[SIGN_TIME_BYTES], char **ret_value, didi_error *error);

/* "PATH?QUERY" that anybody may ask for with this method and no other header than Host, for
 * `seconds` from `time` on. The request must have no query, no headers and no body. The caller
 * frees. Errors: as above. */
int sign_target(const sign_key *key, const sign_request *request, const char time[SIGN_TIME_BYTES],
                unsigned seconds, char **ret_target, didi_error *error);

/* Percent-encodes all but unreserved characters, and slashes where `is_path` is not set. The caller
 * frees; NULL: no memory. */
char *sign_encode(const char *text, bool is_path);
