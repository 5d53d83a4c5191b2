/* SPDX-License-Identifier: Apache-2.0 */
/* Tokens that let clients use the interface: all about them but what they are. */
#pragma once

#include "daemon/base/base.h"
#include "proto/proto.h"
#include "src/base/base.h"

typedef struct store store;

enum { STORE_TOKEN_HASH_BYTES = 65 }; /* SHA-256 in hex, and NUL */

const char *token_scope_name(token_scope scope);

typedef struct store_token {
    char id[ID_BYTES];
    char *name;
    char hash[STORE_TOKEN_HASH_BYTES];
    token_scope scope;
    char *created_by; /* a token's id, or a user */
    int64_t created_ms;
    int64_t expires_ms; /* 0: never */
    int64_t used_ms;    /* of the last use that was noted; 0: never */
} store_token;

void store_token_clear(store_token *token);
void store_tokens_free(store_token *tokens, size_t count);

/* Inserts name, hash, scope, created_by and expires_ms of `token` under a new id. Errors:
 * DIDI_CONFLICT (there are LIMIT_TOKENS). */
int store_token_create(store *self, const store_token *token, char ret_id[ID_BYTES],
                       didi_error *error);

/* Errors: DIDI_NOT_FOUND. */
int store_token_get(store *self, const char *id, store_token *ret_token, didi_error *error);
int store_token_delete(store *self, const char *id, didi_error *error);

/* Newest first, those before the id `before` (NULL: all); `limit` of 1 .. LIMIT_TOKENS. */
int store_token_list(store *self, const char *before, size_t limit, store_token **ret_tokens,
                     size_t *ret_count, bool *ret_more, didi_error *error);

/* Notes a use. Does not wait, and may be lost. */
void store_token_used(store *self, const char *id, int64_t now_ms);
