/* SPDX-License-Identifier: Apache-2.0 */
/* The head of a request: request line and header fields, read strictly after RFC 9112. Pure
 * functions over bytes. */
#pragma once

#include "proto/proto.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    HTTP_HEAD_BYTES_MAX = 32 * 1024, /* offsets into a head fit 16 bits */
    HTTP_HEAD_FIELDS_MAX = 100,
    HTTP_METHOD_BYTES_MAX = 32,
};

/* Why a request is refused. All texts are static. */
typedef struct http_fault {
    problem type;
    const char *detail;    /* NULL: there is none */
    const char *parameter; /* the header at fault, or NULL */
} http_fault;

typedef struct http_field {
    uint16_t name, value; /* where they begin in the head */
} http_field;

/* A head that was read. `text` is the caller's bytes, cut up by NULs. */
typedef struct http_head {
    const char *text;
    const char *method, *target;
    bool is_1_0;
    bool keep_alive; /* what version and Connection ask for */
    bool has_length, chunked;
    bool expects_continue;
    uint64_t length;           /* of the body; 0 when there is none or it is chunked */
    const char *host, *origin; /* host is never NULL, origin is when absent */
    size_t field_count;
    http_field fields[HTTP_HEAD_FIELDS_MAX];
} http_head;

/* Looks for the end of a head in what came so far; *seen bytes of it were looked at before (start
 * with 0). Returns the length of the head with its empty line, or 0: not all there, or, with
 * fault->detail set, never to be a head: a CR or LF alone, a control byte, too long. */
size_t http_head_find(const char *bytes, size_t count, size_t *seen, http_fault *fault);

/* Reads a whole head of `count` bytes, as http_head_find measured it, and cuts `text` up.
 * `text[count]` must be writable. False: *fault says why. */
bool http_head_parse(char *text, size_t count, http_head *ret_head, http_fault *fault);

/* The first field of this name, whatever its case, or NULL. */
const char *http_head_field(const http_head *head, const char *name);

/* True for one or more token characters (RFC 9110 section 5.6.2). */
bool http_is_token(const char *text, size_t bytes);
/* True for bytes that a field value may have: no control bytes but tabs. */
bool http_is_field_value(const char *text, size_t bytes);
