/* SPDX-License-Identifier: Apache-2.0 */
/* Who the daemon is to a server of S3: keys from a file, from the environment, or from the
 * metadata service of the instance (IMDSv2). */
#pragma once

#include "src/base/base.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CREDENTIALS_TEXT_BYTES = 4096 /* a session token may take more than 2000 */ };

typedef struct credentials {
    char id[160], secret[256];
    char token[CREDENTIALS_TEXT_BYTES]; /* "" for none */
    int64_t ends;                       /* seconds since 1970; 0: not known */
} credentials;

/* From text as ~/.aws/credentials has it: `aws_access_key_id`, `aws_secret_access_key`, and maybe
 * `aws_session_token` and `expiration`, below [default] where there are sections. Errors:
 * DIDI_INVALID, with s3_credentials_file as subject; no secret is in the message. */
int credentials_parse(const char *text, credentials *ret_credentials, didi_error *error);

/* From the answer of a metadata service, JSON. Errors: DIDI_FORMAT. */
int credentials_parse_instance(const char *text, size_t bytes, credentials *ret_credentials,
                               didi_error *error);

/* Reads the file (`place` as secret_read has it; may be NULL), else AWS_ACCESS_KEY_ID,
 * AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, else, with `metadata`, asks the instance. Errors:
 * DIDI_INVALID (none are given, or they cannot be used), DIDI_STORAGE (the metadata service does
 * not answer), those of secret_read. */
int credentials_find(const char *place, bool metadata, credentials *ret_credentials,
                     didi_error *error);

/* "2026-11-27T15:04:05Z" as seconds since 1970; 0 where it is no such time. */
int64_t credentials_time(const char *text);
