/* SPDX-License-Identifier: Apache-2.0 */
/* Secrets of endpoints: made, sealed for the database, opened, and signed with. */
#pragma once

#include "src/base/base.h"

#include <stddef.h>
#include <stdint.h>

/* The key that secrets are sealed with: AES-256-GCM. */
typedef struct secret_key secret_key;

/* Reads the key, 64 hex digits, from a file. Without a file (NULL) *ret_key is NULL, and secrets
 * are stored as they are. Errors: DIDI_NOT_FOUND, DIDI_IO, DIDI_INVALID. */
int secret_key_read(const char *file, secret_key **ret_key, didi_error *error);
/* NULL is fine. */
void secret_key_free(secret_key *key);

/* A new one, "whsec_" and the base64 of 32 random bytes; the caller frees it with secret_free.
 * Errors: DIDI_IO, DIDI_NO_MEMORY. */
int secret_make(char **ret_text, didi_error *error);

/* Clears the memory too. NULL is fine. */
void secret_free(char *text);

/* Between text and what is stored. `key` may be NULL. The caller frees with secret_free. Errors of
 * opening: DIDI_INVALID (sealed with another key, or with one where none is given). */
int secret_seal(const secret_key *key, const char *text, char **ret_sealed, didi_error *error);
int secret_open(const secret_key *key, const char *sealed, char **ret_text, didi_error *error);

/* What is signed: "id.timestamp.body". */
typedef struct signed_message {
    const char *id;
    int64_t timestamp; /* seconds since the epoch */
    const char *body;
} signed_message;

/* The value of webhook-signature, "v1,BASE64" for each secret with a blank between; the caller
 * frees. Errors: DIDI_INVALID (a secret of another form), DIDI_NO_MEMORY. */
int secret_sign(const signed_message *message, const char *const *secrets, size_t count,
                char **ret_signature, didi_error *error);
