/* SPDX-License-Identifier: Apache-2.0 */
/* One SQLite connection with its prepared statements. Internal to the store. A connection is used
 * by one thread at a time. */
#pragma once

#include "daemon/base/base.h"
#include "src/base/base.h"
#include "store_sql.h"

#include <sqlite3.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct database {
    sqlite3 *connection;
    sqlite3_stmt *statements[QUERY_COUNT];
    bool bind_failed;
    int wal_pages;            /* in the log after the last commit; writer only */
    char boot_id[ID_BYTES];   /* writer only */
    char newest_id[ID_BYTES]; /* writer only: ids given out ascend */
} database;

/* Opens the file; the writer creates and migrates it. Errors: see store_open. */
int database_open(const char *path, bool writer, database **ret_database, didi_error *error);
void database_close(database *self);

/* The statement, reset and without bindings; valid until asked for again. NULL after an error,
 * which all below accept: stepping it is DIDI_IO. */
sqlite3_stmt *database_statement(database *self, store_query query, didi_error *error);

/* Bind by name (with the colon). Text is not copied: it must live until the statement is reset.
 * NULL text and NaN become NULL. A failure shows in the next step. */
void bind_text(database *self, sqlite3_stmt *statement, const char *name, const char *text);
void bind_integer(database *self, sqlite3_stmt *statement, const char *name, int64_t value);
void bind_real(database *self, sqlite3_stmt *statement, const char *name, double value);

/* One row, or none and the statement is reset. */
int database_step(database *self, sqlite3_stmt *statement, bool *ret_row, didi_error *error);

/* Steps to the end and resets. */
int database_run(database *self, sqlite3_stmt *statement, didi_error *error);

/* A statement without parameters. */
int database_execute(database *self, store_query query, didi_error *error);

/* Copies a column into fresh memory; SQL NULL gives NULL. DIDI_NO_MEMORY. */
int column_copy(sqlite3_stmt *statement, int column, char **ret_text, didi_error *error);

/* Copies a column into a buffer, cut if too long; SQL NULL gives "". */
void column_text(sqlite3_stmt *statement, int column, char *buffer, size_t bytes);

/* NaN for SQL NULL. */
double column_real(sqlite3_stmt *statement, int column);

/* An id above all given out before. */
int database_new_id(database *self, char ret_id[ID_BYTES], didi_error *error);

/* Moves pages from the log to the database as far as readers allow; `all` waits and cuts the log.
 */
void database_checkpoint(database *self, bool all);
