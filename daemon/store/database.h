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
    int wal_pages;            /* in the log after the last commit; writer only */
    char boot_id[ID_BYTES];   /* writer only */
    char newest_id[ID_BYTES]; /* writer only: ids given out ascend */
} database;

typedef enum database_access {
    DATABASE_READ,
    DATABASE_WRITE, /* the only one; creates and migrates it */
    DATABASE_LOOK,  /* reads, and leaves the file and its log as they are even at the end */
} database_access;

/* Opens the file. Errors: see store_open. */
int database_open(const char *path, database_access access, database **ret_database,
                  didi_error *error);
void database_close(database *self);

/* A parameter of a statement. NULL text and what is not finite become NULL. */
typedef enum sql_kind { SQL_KIND_TEXT, SQL_KIND_INTEGER, SQL_KIND_REAL } sql_kind;
typedef struct sql_parameter {
    const char *name; /* with the colon */
    sql_kind kind;
    const char *text; /* not copied: must live until the statement is reset */
    int64_t integer;
    double real;
} sql_parameter;

#define SQL_TEXT(parameter, value)                                                                 \
    {                                                                                              \
        .name = ":" #parameter, .kind = SQL_KIND_TEXT, .text = (value)                             \
    }
#define SQL_INTEGER(parameter, value)                                                              \
    {                                                                                              \
        .name = ":" #parameter, .kind = SQL_KIND_INTEGER, .integer = (int64_t)(value)              \
    }
#define SQL_REAL(parameter, value)                                                                 \
    {                                                                                              \
        .name = ":" #parameter, .kind = SQL_KIND_REAL, .real = (value)                             \
    }

/* SQL_PARAMETERS(SQL_TEXT(id, id), SQL_INTEGER(now, clock_now_ms())): all that a query names. */
#define SQL_PARAMETERS(...) ((const sql_parameter[]){__VA_ARGS__, {.name = NULL}})

/* The statement, bound and before its first row; valid until asked for again. `parameters` may be
 * NULL: none. */
int database_statement(database *self, store_query query, const sql_parameter *parameters,
                       sqlite3_stmt **ret_statement, didi_error *error);

/* One row, or none and the statement is reset. */
int database_step(database *self, sqlite3_stmt *statement, bool *ret_row, didi_error *error);

/* Executes a query whose rows, if any, are of no interest. */
int database_run(database *self, store_query query, const sql_parameter *parameters,
                 didi_error *error);

/* How a row lies in memory. */
typedef enum column_kind {
    COLUMN_TEXT,    /* char[], cut if too long; "" for SQL NULL */
    COLUMN_STRING,  /* char *, fresh memory; NULL for SQL NULL */
    COLUMN_GIVEN,   /* the same, and never NULL */
    COLUMN_JSON,    /* the same, and a JSON object or array */
    COLUMN_INTEGER, /* bool, or an integer of 32 or 64 bits; 0 for SQL NULL */
    COLUMN_REAL,    /* double; NaN for SQL NULL */
    COLUMN_STATE,   /* enum, one of the row's states */
} column_kind;

typedef struct row_kind {
    const char *noun; /* what it is a row of; its first column tells which one */
    size_t bytes;
    const char *const *states; /* words of COLUMN_STATE */
    size_t state_count;
    struct row_column {
        column_kind kind;
        size_t offset, bytes;
    } columns[36]; /* in the order of the query; one of no bytes ends them */
} row_kind;

#define ROW_COLUMN(type, kind, member)                                                             \
    {                                                                                              \
        COLUMN_##kind, offsetof(type, member), sizeof(((type *)NULL)->member)                      \
    }

/* Rows of one column: an id, an int64_t. */
extern const row_kind row_of_id, row_of_integer;

/* Errors: DIDI_NO_MEMORY, DIDI_FORMAT (a damaged row: a state that there is not, text that lacks or
 * is not JSON); nothing is left to clear. Bytes that are not UTF-8 become question marks. */
int row_read(const row_kind *kind, sqlite3_stmt *statement, void *ret_row, didi_error *error);
/* Frees what it holds and zeroes it. */
void row_clear(const row_kind *kind, void *row);

/* Reads the first row of a query, and executes it to the end. *ret_row is untouched when there is
 * none; `ret_found` may be NULL where there is always one. Errors: those of row_read, DIDI_IO,
 * DIDI_DISK_FULL. */
int database_row(database *self, store_query query, const sql_parameter *parameters,
                 const row_kind *kind, void *ret_row, bool *ret_found, didi_error *error);

/* An id of this moment, above all given out before. */
int database_new_id(database *self, int64_t now_ms, char ret_id[ID_BYTES], didi_error *error);

/* Executes SQL that returns no rows. */
int database_execute(database *self, const char *text, didi_error *error);
/* The first column of the first row. */
int database_integer(database *self, const char *text, int64_t *ret_value, didi_error *error);
/* Fills *error from the connection's last error: DIDI_FORMAT (damaged), DIDI_DISK_FULL,
 * DIDI_NO_MEMORY, DIDI_INTERNAL, DIDI_IO. */
int database_fail(database *self, const char *what, didi_error *error);

/* Moves pages from the log to the database as far as readers allow; `all` waits and cuts the log.
 */
void database_checkpoint(database *self, bool all);
