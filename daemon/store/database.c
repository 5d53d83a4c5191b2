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
static int pragma_integer(database *self, const char *text, int64_t *ret_value, didi_error *error)
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
    int status = pragma_integer(self, "PRAGMA application_id", &application, error);
    if (status == DIDI_OK)
        status = pragma_integer(self, "PRAGMA user_version", &version, error);
    if (status == DIDI_OK)
        status = pragma_integer(self, "SELECT count(*) FROM sqlite_schema", &tables, error);
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

/* An unbound parameter is NULL. */
static int parameter_bind(sqlite3_stmt *statement, const sql_parameter *parameter)
{
    int index = sqlite3_bind_parameter_index(statement, parameter->name);
    assert(index > 0);
    if (parameter->kind == SQL_KIND_TEXT)
        return sqlite3_bind_text(statement, index, parameter->text, -1, SQLITE_STATIC);
    if (parameter->kind == SQL_KIND_INTEGER)
        return sqlite3_bind_int64(statement, index, parameter->integer);
    return isfinite(parameter->real) ? sqlite3_bind_double(statement, index, parameter->real)
                                     : SQLITE_OK;
}

int database_statement(database *self, store_query query, const sql_parameter *parameters,
                       sqlite3_stmt **ret_statement, didi_error *error)
{
    assert((unsigned)query < QUERY_COUNT);
    sqlite3_stmt **statement = &self->statements[query];
    if (*statement == NULL &&
        sqlite3_prepare_v3(self->connection, store_query_texts[query], -1,
                           SQLITE_PREPARE_PERSISTENT, statement, NULL) != SQLITE_OK)
        return database_fail(self, "cannot prepare", error);
    sqlite3_reset(*statement);
    sqlite3_clear_bindings(*statement);
    for (; parameters != NULL && parameters->name != NULL; parameters++)
        if (parameter_bind(*statement, parameters) != SQLITE_OK)
            return didi_fail(error, DIDI_NO_MEMORY, NULL, "cannot bind a value");
    *ret_statement = *statement;
    return DIDI_OK;
}

int database_step(database *self, sqlite3_stmt *statement, bool *ret_row, didi_error *error)
{
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

static int run_to_the_end(database *self, sqlite3_stmt *statement, didi_error *error)
{
    bool row = true;
    int status = DIDI_OK;
    while (row && status == DIDI_OK)
        status = database_step(self, statement, &row, error);
    return status;
}

int database_run(database *self, store_query query, const sql_parameter *parameters,
                 didi_error *error)
{
    sqlite3_stmt *statement = NULL;
    int status = database_statement(self, query, parameters, &statement, error);
    return status == DIDI_OK ? run_to_the_end(self, statement, error) : status;
}

/* ---- rows ---- */

const row_kind row_of_id = {.bytes = ID_BYTES, .columns = {{COLUMN_TEXT, 0, ID_BYTES}}};
const row_kind row_of_integer = {.bytes = sizeof(int64_t),
                                 .columns = {{COLUMN_INTEGER, 0, sizeof(int64_t)}}};

static int read_string(const char *text, char **ret_text, didi_error *error)
{
    *ret_text = memory_string(text);
    if (*ret_text == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    return DIDI_OK;
}

static int read_state(const row_kind *kind, sqlite3_stmt *statement, const char *text,
                      unsigned *ret_state, didi_error *error)
{
    size_t state = text_find(kind->states, kind->state_count, text);
    if (state == kind->state_count)
        return didi_fail(error, DIDI_FORMAT, "didid.db", "%s %s has state '%s'", kind->noun,
                         sqlite3_column_text(statement, 0), text);
    *ret_state = (unsigned)state;
    return DIDI_OK;
}

static void read_integer(int64_t value, void *target, size_t bytes)
{
    if (bytes == sizeof(int64_t))
        *(int64_t *)target = value;
    else if (bytes == sizeof(int32_t))
        *(int32_t *)target = (int32_t)value;
    else
        *(bool *)target = value != 0;
}

int row_read(const row_kind *kind, sqlite3_stmt *statement, void *ret_row, didi_error *error)
{
    int status = DIDI_OK;
    memset(ret_row, 0, kind->bytes);
    for (int i = 0; kind->columns[i].bytes != 0 && status == DIDI_OK; i++) {
        const struct row_column *column = &kind->columns[i];
        void *target = (char *)ret_row + column->offset;
        bool null = sqlite3_column_type(statement, i) == SQLITE_NULL;
        if (column->kind == COLUMN_INTEGER) {
            read_integer(sqlite3_column_int64(statement, i), target, column->bytes);
        } else if (column->kind == COLUMN_REAL) {
            *(double *)target = null ? NAN : sqlite3_column_double(statement, i);
        } else {
            const char *text = null ? "" : (const char *)sqlite3_column_text(statement, i);
            if (text == NULL)
                status = didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
            else if (column->kind == COLUMN_STATE)
                status = read_state(kind, statement, text, target, error);
            else if (column->kind == COLUMN_TEXT)
                sqlite3_snprintf((int)column->bytes, target, "%s", text);
            else if (!null)
                status = read_string(text, target, error);
        }
    }
    if (status != DIDI_OK)
        row_clear(kind, ret_row);
    return status;
}

void row_clear(const row_kind *kind, void *row)
{
    for (size_t i = 0; kind->columns[i].bytes != 0; i++)
        if (kind->columns[i].kind == COLUMN_STRING)
            free(*(char **)(void *)((char *)row + kind->columns[i].offset));
    memset(row, 0, kind->bytes);
}

int database_row(database *self, store_query query, const sql_parameter *parameters,
                 const row_kind *kind, void *ret_row, bool *ret_found, didi_error *error)
{
    sqlite3_stmt *statement = NULL;
    bool found = false;
    int status = database_statement(self, query, parameters, &statement, error);
    if (status == DIDI_OK)
        status = database_step(self, statement, &found, error);
    assert(status != DIDI_OK || found || ret_found != NULL);
    if (ret_found != NULL)
        *ret_found = found;
    if (status != DIDI_OK || !found)
        return status;
    status = row_read(kind, statement, ret_row, error);
    if (status != DIDI_OK) {
        sqlite3_reset(statement);
        return status;
    }
    status = run_to_the_end(self, statement, error);
    if (status != DIDI_OK)
        row_clear(kind, ret_row);
    return status;
}

static int load_newest_id(database *self, store_query query, didi_error *error)
{
    char id[ID_BYTES];
    int status = database_row(self, query, NULL, &row_of_id, id, NULL, error);
    if (status == DIDI_OK && strcmp(id, self->newest_id) > 0)
        memcpy(self->newest_id, id, sizeof id);
    return status;
}

int database_new_id(database *self, char ret_id[ID_BYTES], didi_error *error)
{
    assert(sqlite3_db_readonly(self->connection, "main") == 0);
    if (self->newest_id[0] == '\0') {
        int status = load_newest_id(self, QUERY_JOB_NEWEST_ID, error);
        if (status == DIDI_OK)
            status = load_newest_id(self, QUERY_EXPORT_NEWEST_ID, error);
        if (status == DIDI_OK)
            status = load_newest_id(self, QUERY_FETCH_NEWEST_ID, error);
        if (status != DIDI_OK)
            return status;
    }
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
