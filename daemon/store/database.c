/* SPDX-License-Identifier: Apache-2.0 */
/* One SQLite connection: opening, migrating, statements.
 *
 * SQLite 3.40.1 loses transactions when two connections write or checkpoint the same write-ahead
 * log. So there is one read-write connection, which alone checkpoints; all others are read-only. */
#define STORE_SQL_TEXTS
#include "daemon/store/database.h"

#include "daemon/base/base.h"
#include "src/base/base.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    DATABASE_APPLICATION_ID = 0x64696469, /* "didi" */
    DATABASE_BUSY_MILLISECONDS = 2000,
};

/* Fills *error from the connection's last error. */
static int database_fail(database *self, const char *what, didi_error *error)
{
    int code = sqlite3_extended_errcode(self->connection);
    int status = DIDI_IO;
    switch (code & 0xff) {
    case SQLITE_FULL:
        status = DIDI_DISK_FULL;
        break;
    case SQLITE_NOMEM:
        status = DIDI_NO_MEMORY;
        break;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        status = DIDI_FORMAT;
        break;
    case SQLITE_CONSTRAINT:
    case SQLITE_MISUSE:
    case SQLITE_RANGE:
    case SQLITE_ERROR:
        status = DIDI_INTERNAL;
        break;
    default:
        break;
    }
    return didi_fail(error, status, "didid.db", "%s: %s (SQLite error %d)", what,
                     sqlite3_errmsg(self->connection), code);
}

static int execute_text(database *self, const char *text, didi_error *error)
{
    if (sqlite3_exec(self->connection, text, NULL, NULL, NULL) != SQLITE_OK)
        return database_fail(self, "cannot execute", error);
    return DIDI_OK;
}

/* The first column of the first row. */
static int read_integer(database *self, const char *text, int64_t *ret_value, didi_error *error)
{
    sqlite3_stmt *statement = NULL;
    int status = DIDI_OK;
    if (sqlite3_prepare_v2(self->connection, text, -1, &statement, NULL) != SQLITE_OK ||
        sqlite3_step(statement) != SQLITE_ROW)
        status = database_fail(self, "cannot read", error);
    else
        *ret_value = sqlite3_column_int64(statement, 0);
    sqlite3_finalize(statement);
    return status;
}

static int wal_hook(void *context, sqlite3 *connection, const char *name, int pages)
{
    database *self = context;
    (void)connection;
    (void)name;
    self->wal_pages = pages;
    return SQLITE_OK;
}

static int database_identify(database *self, int64_t *ret_version, didi_error *error)
{
    int64_t application = 0;
    int64_t version = 0;
    int64_t tables = 0;
    int status = read_integer(self, "PRAGMA application_id", &application, error);
    if (status == DIDI_OK)
        status = read_integer(self, "PRAGMA user_version", &version, error);
    if (status == DIDI_OK)
        status = read_integer(self, "SELECT count(*) FROM sqlite_schema", &tables, error);
    if (status != DIDI_OK)
        return status;
    if (application != DATABASE_APPLICATION_ID && (application != 0 || version != 0 || tables != 0))
        return didi_fail(error, DIDI_CONFLICT, "didid.db", "the database is not one of didid");
    if (version > STORE_MIGRATION_COUNT)
        return didi_fail(error, DIDI_CONFLICT, "didid.db",
                         "the database has version %lld, of a newer didid; this one knows %d",
                         (long long)version, STORE_MIGRATION_COUNT);
    *ret_version = version;
    return DIDI_OK;
}

static int database_migrate(database *self, didi_error *error)
{
    int64_t version = 0;
    int status = database_identify(self, &version, error);
    for (; status == DIDI_OK && version < STORE_MIGRATION_COUNT; version++) {
        char mark[96];
        sqlite3_snprintf(sizeof mark, mark, "PRAGMA application_id=%d; PRAGMA user_version=%lld;",
                         DATABASE_APPLICATION_ID, (long long)version + 1);
        status = execute_text(self, "BEGIN IMMEDIATE", error);
        if (status != DIDI_OK)
            break;
        status = execute_text(self, store_migrations[version], error);
        if (status == DIDI_OK)
            status = execute_text(self, mark, error);
        if (status == DIDI_OK)
            status = execute_text(self, "COMMIT", error);
        if (status != DIDI_OK)
            sqlite3_exec(self->connection, "ROLLBACK", NULL, NULL, NULL);
    }
    return status;
}

/* The first use of a damaged or foreign file fails here, before anything is written. */
static int writer_prepare(database *self, didi_error *error)
{
    int64_t version = 0;
    int status = database_identify(self, &version, error);
    if (status != DIDI_OK)
        return status;
    status = execute_text(self,
                          "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"
                          "PRAGMA wal_autocheckpoint=0; PRAGMA journal_size_limit=16777216;",
                          error);
    if (status == DIDI_OK)
        status = database_migrate(self, error);
    sqlite3_wal_hook(self->connection, wal_hook, self);
    return status;
}

static int writer_check(database *self, didi_error *error)
{
    sqlite3_stmt *statement = NULL;
    int status = DIDI_OK;
    if (sqlite3_prepare_v2(self->connection, "PRAGMA quick_check(1)", -1, &statement, NULL) !=
            SQLITE_OK ||
        sqlite3_step(statement) != SQLITE_ROW) {
        status = database_fail(self, "cannot check the database", error);
    } else {
        const char *answer = (const char *)sqlite3_column_text(statement, 0);
        if (answer == NULL || strcmp(answer, "ok") != 0)
            status = didi_fail(error, DIDI_FORMAT, "didid.db", "the database is damaged: %s",
                               answer != NULL ? answer : "no answer");
    }
    sqlite3_finalize(statement);
    return status;
}

int database_open(const char *path, bool writer, database **ret_database, didi_error *error)
{
    int access = writer ? SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE : SQLITE_OPEN_READONLY;
    database *self = memory_zeroed(1, sizeof *self);
    int status = DIDI_OK;
    if (self == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    if (sqlite3_open_v2(path, &self->connection,
                        access | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE, NULL) != SQLITE_OK) {
        status = database_fail(self, "cannot open the database", error);
        goto out;
    }
    sqlite3_busy_timeout(self->connection, DATABASE_BUSY_MILLISECONDS);
    status = execute_text(self,
                          "PRAGMA foreign_keys=ON; PRAGMA trusted_schema=OFF;"
                          "PRAGMA cell_size_check=ON; PRAGMA temp_store=MEMORY;"
                          "PRAGMA mmap_size=0;",
                          error);
    if (status == DIDI_OK && writer)
        status = writer_prepare(self, error);
    if (status == DIDI_OK && writer)
        status = writer_check(self, error);
out:
    if (status == DIDI_OK)
        *ret_database = self;
    else
        database_close(self);
    return status;
}

void database_close(database *self)
{
    if (self == NULL)
        return;
    for (size_t i = 0; i < QUERY_COUNT; i++)
        sqlite3_finalize(self->statements[i]);
    sqlite3_close(self->connection);
    free(self);
}

sqlite3_stmt *database_statement(database *self, store_query query, didi_error *error)
{
    assert((unsigned)query < QUERY_COUNT);
    sqlite3_stmt **statement = &self->statements[query];
    if (*statement == NULL &&
        sqlite3_prepare_v3(self->connection, store_query_texts[query], -1,
                           SQLITE_PREPARE_PERSISTENT, statement, NULL) != SQLITE_OK) {
        database_fail(self, "cannot prepare", error);
        return NULL;
    }
    sqlite3_reset(*statement);
    sqlite3_clear_bindings(*statement);
    self->bind_failed = false;
    return *statement;
}

static int bind_index(sqlite3_stmt *statement, const char *name)
{
    int index = sqlite3_bind_parameter_index(statement, name);
    assert(index > 0);
    return index;
}

void bind_text(database *self, sqlite3_stmt *statement, const char *name, const char *text)
{
    if (statement != NULL && sqlite3_bind_text(statement, bind_index(statement, name), text, -1,
                                               SQLITE_STATIC) != SQLITE_OK)
        self->bind_failed = true;
}

void bind_integer(database *self, sqlite3_stmt *statement, const char *name, int64_t value)
{
    if (statement != NULL &&
        sqlite3_bind_int64(statement, bind_index(statement, name), value) != SQLITE_OK)
        self->bind_failed = true;
}

void bind_real(database *self, sqlite3_stmt *statement, const char *name, double value)
{
    if (statement == NULL || !isfinite(value))
        return; /* an unbound parameter is NULL */
    if (sqlite3_bind_double(statement, bind_index(statement, name), value) != SQLITE_OK)
        self->bind_failed = true;
}

int database_step(database *self, sqlite3_stmt *statement, bool *ret_row, didi_error *error)
{
    if (statement == NULL)
        return DIDI_IO;
    if (self->bind_failed)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "cannot bind a value");
    int code = sqlite3_step(statement);
    if (code != SQLITE_ROW && code != SQLITE_DONE) {
        int status = database_fail(self, "cannot execute", error);
        sqlite3_reset(statement);
        return status;
    }
    if (code == SQLITE_DONE)
        sqlite3_reset(statement);
    *ret_row = code == SQLITE_ROW;
    return DIDI_OK;
}

int database_run(database *self, sqlite3_stmt *statement, didi_error *error)
{
    bool row = true;
    int status = DIDI_OK;
    while (row && status == DIDI_OK)
        status = database_step(self, statement, &row, error);
    return status;
}

int database_execute(database *self, store_query query, didi_error *error)
{
    return database_run(self, database_statement(self, query, error), error);
}

int column_copy(sqlite3_stmt *statement, int column, char **ret_text, didi_error *error)
{
    const char *text = (const char *)sqlite3_column_text(statement, column);
    *ret_text = NULL;
    if (text == NULL)
        return DIDI_OK;
    *ret_text = memory_string(text);
    if (*ret_text == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    return DIDI_OK;
}

void column_text(sqlite3_stmt *statement, int column, char *buffer, size_t bytes)
{
    const char *text = (const char *)sqlite3_column_text(statement, column);
    sqlite3_snprintf((int)bytes, buffer, "%s", text != NULL ? text : "");
}

double column_real(sqlite3_stmt *statement, int column)
{
    if (sqlite3_column_type(statement, column) == SQLITE_NULL)
        return NAN;
    return sqlite3_column_double(statement, column);
}

static int load_newest_id(database *self, store_query query, didi_error *error)
{
    sqlite3_stmt *statement = database_statement(self, query, error);
    char id[ID_BYTES];
    bool row = false;
    if (database_step(self, statement, &row, error) != DIDI_OK)
        return DIDI_IO;
    if (row) {
        column_text(statement, 0, id, sizeof id);
        if (strcmp(id, self->newest_id) > 0)
            memcpy(self->newest_id, id, sizeof id);
        sqlite3_reset(statement);
    }
    return DIDI_OK;
}

int database_new_id(database *self, char ret_id[ID_BYTES], didi_error *error)
{
    assert(sqlite3_db_readonly(self->connection, "main") == 0);
    if (self->newest_id[0] == '\0' &&
        (load_newest_id(self, QUERY_JOB_NEWEST_ID, error) != DIDI_OK ||
         load_newest_id(self, QUERY_EXPORT_NEWEST_ID, error) != DIDI_OK))
        return DIDI_IO;
    if (id_next(clock_now_ms(), self->newest_id, ret_id) != 0)
        return didi_fail(error, DIDI_IO, NULL, "the kernel gives no random bytes");
    memcpy(self->newest_id, ret_id, ID_BYTES);
    return DIDI_OK;
}

void database_checkpoint(database *self, bool all)
{
    assert(sqlite3_db_readonly(self->connection, "main") == 0);
    sqlite3_wal_checkpoint_v2(self->connection, NULL,
                              all ? SQLITE_CHECKPOINT_TRUNCATE : SQLITE_CHECKPOINT_PASSIVE, NULL,
                              NULL);
    self->wal_pages = 0;
}
