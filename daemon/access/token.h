/* SPDX-License-Identifier: Apache-2.0 */
/* What a token looks like: "didi_", 43 digits of base 62 that hold 256 random bits, and six digits
 * of base 62 that hold the CRC-32 (ISO-HDLC) of all before them, so that scanners and people tell a
 * token from something else, and a mistyped one from a revoked one. */
#pragma once

#include "src/base/base.h"

#include <stdbool.h>

enum {
    TOKEN_SECRET_BYTES = 32,
    TOKEN_CHARACTERS = 54,
    TOKEN_TEXT_BYTES = TOKEN_CHARACTERS + 1,
    TOKEN_HASH_BYTES = 65, /* SHA-256 in hex, and NUL */
    TOKEN_HINT_BYTES = 10, /* "didi_" and the first four digits, for the log */
};

/* Writes the token of a secret. */
void token_write(const unsigned char secret[TOKEN_SECRET_BYTES], char ret_text[TOKEN_TEXT_BYTES]);

/* A new token. Errors: DIDI_IO (the kernel gives no random bits). */
int token_generate(char ret_text[TOKEN_TEXT_BYTES], didi_error *error);

/* Form and checksum. */
bool token_is_well_formed(const char *text);

/* What is kept of a token. Errors: DIDI_INTERNAL. */
int token_hash(const char *text, char ret_hash[TOKEN_HASH_BYTES], didi_error *error);

/* What the log may show of a well-formed token. */
void token_hint(const char *text, char ret_hint[TOKEN_HINT_BYTES]);

/* Reads the value of an Authorization header: "Bearer", blanks, a well-formed token and nothing
 * else. Returns where the token begins, or NULL. */
const char *token_from_header(const char *value);
