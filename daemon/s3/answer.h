/* SPDX-License-Identifier: Apache-2.0 */
/* Answers of S3 in XML: what went wrong, lists, uploads in parts. They are taken for hostile. */
#pragma once

#include "src/base/base.h"

#include <stddef.h>

enum {
    ANSWER_BYTES_MAX = 4 << 20, /* of a document: a list has a thousand keys */
    ANSWER_TEXT_BYTES = 1100,   /* of an element, with its NUL: a key has 1024 at most */
};

/* Calls visit for the text of every element that holds no others, with its own name and that of the
 * element around it ("" outside the root), until it fails. Names have no prefix. Errors:
 * DIDI_FORMAT (not well-formed, a document type, too deep, a text too long), DIDI_NO_MEMORY, those
 * of visit. */
typedef int answer_visit(void *context, const char *parent, const char *name, const char *text,
                         didi_error *error);
int answer_read(const char *document, size_t bytes, answer_visit *visit, void *context,
                didi_error *error);

typedef struct answer_failure {
    char code[64];     /* "SlowDown"; "" where the document has none */
    char message[512]; /* fit to be shown */
} answer_failure;

/* What a document says of a failure; empty texts where it is none. */
void answer_read_failure(const char *document, size_t bytes, answer_failure *ret_failure);
