/* SPDX-License-Identifier: Apache-2.0 */
/* Secrets from files: never from a command line, never in a log. */
#pragma once

#include "src/base/base.h"

enum { SECRET_BYTES_MAX = 65536 };

/* Where a file lies whose place is a path, or "credential:NAME" for the file NAME in
 * $CREDENTIALS_DIRECTORY (systemd.exec(5)). The caller frees *ret_path. `setting` names the setting
 * in messages. Errors: DIDI_INVALID (no such credential), DIDI_NO_MEMORY. */
int secret_path(const char *setting, const char *place, char **ret_path, didi_error *error);

/* Reads a secret's whole text; *ret_text is NUL-terminated, the caller frees it. `place` is as
 * above. Errors: those of secret_path; DIDI_INVALID (others can read or change the file, empty, a
 * NUL byte), DIDI_NOT_FOUND, DIDI_IO, DIDI_NO_MEMORY. */
int secret_read(const char *setting, const char *place, char **ret_text, didi_error *error);

/* As secret_read, of one line of printable ASCII without blanks: a token, a password. */
int secret_read_word(const char *setting, const char *place, char **ret_text, didi_error *error);
