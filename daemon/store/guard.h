/* SPDX-License-Identifier: Apache-2.0 */
/* What lies where the database should: looked at before anything is written. */
#pragma once

#include "src/base/base.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GUARD_TABLE(X)                                                                             \
    X(GOOD, "good")                                                                                \
    X(NEW, "new")         /* neither a database nor jobs: a fresh state directory */               \
    X(MISSING, "missing") /* no database, or an empty one, but jobs' directories or its mark */    \
    X(LINK, "link")       /* a link or no plain file */                                            \
    X(FOREIGN, "foreign") /* not a database of didid */                                            \
    X(DAMAGED, "damaged") /* cannot be read */                                                     \
    X(OTHER, "other")     /* a database of didid, but of another state directory */                \
    X(OLDER, "older")     /* it went back in time: commits are missing */                          \
    X(TOO_NEW, "too new") /* of a newer didid */
typedef enum guard_verdict {
#define GUARD_ENUMERATOR(id, name) GUARD_##id,
    GUARD_TABLE(GUARD_ENUMERATOR)
#undef GUARD_ENUMERATOR
} guard_verdict;

typedef struct guard_report {
    guard_verdict verdict;
    int64_t version;    /* of the schema; 0 where it is not known */
    size_t directories; /* of jobs, counted up to GUARD_DIRECTORIES_MAX */
    bool mark_damaged;  /* the mark cannot be read: whether commits are missing is not known */
    char detail[DIDI_ERROR_MESSAGE_BYTES_MAX]; /* one line for people */
} guard_report;

enum { GUARD_DIRECTORIES_MAX = 1000 };

/* Looks at didid.db in the open state directory of this path, and changes nothing in it. Errors:
 * DIDI_IO, DIDI_NO_MEMORY; what it finds is none. */
int guard_examine(int directory_fd, const char *directory, guard_report *ret_report,
                  didi_error *error);

/* Renames didid.db, its log and its index to NAME.aside-TIME, whatever they are. Never over
 * anything. ret_name is "" where there was none. Errors: DIDI_IO. */
int guard_set_aside(int directory_fd, char ret_name[64], didi_error *error);

/* Reads page_size, page count and schema version of an SQLite file's header. Errors: DIDI_FORMAT,
 * DIDI_IO. */
int guard_check_file(int fd, const char *subject, int64_t *ret_version, didi_error *error);
