/* SPDX-License-Identifier: Apache-2.0 */
/* The mark: one line of a fixed length with a check sum, so that it is overwritten in place. */
#include "daemon/store/mark.h"

#include "src/base/base.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    MARK_CHECKED_BYTES = 64, /* what the check sum is of */
    MARK_CHECK_DIGITS = 16,
    MARK_BYTES = MARK_CHECKED_BYTES + 1 + MARK_CHECK_DIGITS + 1,
    MARK_ID_DIGITS = MARK_DATABASE_ID_BYTES - 1,
};

static int mark_format(const database_mark *mark, char ret_text[MARK_BYTES + 1], didi_error *error)
{
    char digest[65];
    (void)snprintf(ret_text, MARK_BYTES + 1, "didid 1 %32.32s %020" PRId64 "   ", mark->database_id,
                   mark->commits);
    int status = file_sha256_bytes(ret_text, MARK_CHECKED_BYTES, digest, error);
    if (status == DIDI_OK)
        (void)snprintf(ret_text + MARK_CHECKED_BYTES, MARK_BYTES + 1 - MARK_CHECKED_BYTES,
                       " %.16s\n", digest);
    return status;
}

int mark_read(int directory_fd, database_mark *ret_mark, bool *ret_found, didi_error *error)
{
    database_mark found = {0};
    char again[MARK_BYTES + 1];
    char *text = NULL;
    size_t bytes = 0;
    int status = file_read_text(directory_fd, MARK_NAME, MARK_BYTES, &text, &bytes, error);
    if (status == DIDI_NOT_FOUND) {
        *ret_found = false;
        return DIDI_OK;
    }
    if (status != DIDI_OK)
        return status;
    if (bytes == MARK_BYTES && strlen(text) == MARK_BYTES) {
        memcpy(found.database_id, text + 8, MARK_ID_DIGITS);
        found.commits = strtoll(text + 8 + MARK_ID_DIGITS + 1, NULL, 10);
    }
    status = mark_format(&found, again, error);
    if (status == DIDI_OK && strcmp(text, again) != 0)
        status = didi_fail(error, DIDI_FORMAT, MARK_NAME, "the mark of the database is damaged");
    free(text);
    if (status == DIDI_OK) {
        *ret_mark = found;
        *ret_found = true;
    }
    return status;
}

int mark_replace(int directory_fd, const database_mark *mark, didi_error *error)
{
    char text[MARK_BYTES + 1];
    int status = mark_format(mark, text, error);
    return status == DIDI_OK ? file_write_durable(directory_fd, MARK_NAME, text, MARK_BYTES, error)
                             : status;
}

int mark_write(int fd, const database_mark *mark, didi_error *error)
{
    char text[MARK_BYTES + 1];
    int status = mark_format(mark, text, error);
    return status == DIDI_OK ? file_pwrite_all(fd, text, MARK_BYTES, 0, MARK_NAME, error) : status;
}
