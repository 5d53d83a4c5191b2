/* SPDX-License-Identifier: Apache-2.0 */
/* SHA-256 of bytes that come in pieces. */
#pragma once

#include "src/base/base.h"

#include <stdbool.h>
#include <stddef.h>

typedef struct client_digest client_digest;

/* Caller frees; NULL when out of memory. digest_restart must come before the first
 * digest_add, and between digest_finish and the next. */
client_digest *digest_create(void);
void digest_free(client_digest *digest);

/* Begins anew. Errors: CLIENT_FAILURE (no SHA-256 in this OpenSSL). */
int digest_restart(client_digest *digest, didi_error *error);
void digest_add(client_digest *digest, const void *bytes, size_t count);

/* Lower-case hex of all that was added since the restart. Errors: CLIENT_FAILURE. */
int digest_finish(client_digest *digest, char ret_hex[65], didi_error *error);

/* True when a Repr-Digest header's sha-256 member is `hex`, or it has no such member (RFC 9530). */
bool digest_matches_header(const char *hex, const char *header);
