/* SPDX-License-Identifier: Apache-2.0 */
/* One SQLite connection: opening, migrating, statements.
 *
 * SQLite 3.40.1 loses transactions when two connections write or checkpoint the same write-ahead
 * log. So there is one read-write connection, which alone checkpoints; all others are read-only. */
#define STORE_SQL_QUERIES
#include "daemon/store/database.h"

#include "daemon/base/base.h"
#include "daemon/store/schema.h"
#include "src/base/base.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { DATABASE_BUSY_MILLISECONDS = 2000 };

/* Of pages, one connection; the kernel has them all. Small, so that it is full soon and memory does
 * not go on growing for hours. */
#define CACHE_KIBIBYTES "256"

int database_fail(database *self, const char *what, didi_error *error)
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

int database_execute(database *self, const char *text, didi_error *error)
{
    if (sqlite3_exec(self->connection, text, NULL, NULL, NULL) != SQLITE_OK)
        return database_fail(self, "cannot execute", error);
    return DIDI_OK;
}

int database_integer(database *self, const char *text, int64_t *ret_value, didi_error *error)
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

/* The first use of a damaged or foreign file fails here, before anything is written. */
static int writer_prepare(database *self, const char *path, didi_error *error)
{
    int64_t version = 0;
    int status = schema_identify(self, &version, error);
    if (status != DIDI_OK)
        return status;
    status = database_execute(self,
                              "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"
                              "PRAGMA wal_autocheckpoint=0; PRAGMA journal_size_limit=16777216;",
                              error);
    if (status == DIDI_OK)
        status = schema_migrate(self, path, error);
    sqlite3_wal_hook(self->connection, wal_hook, self);
    return status;
}

int database_open(const char *path, database_access access, database **ret_database,
                  didi_error *error)
{
    bool writer = access == DATABASE_WRITE;
    int flags = writer ? SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE : SQLITE_OPEN_READONLY;
    database *self = memory_zeroed(1, sizeof *self);
    int status = DIDI_OK;
    if (self == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    if (sqlite3_open_v2(path, &self->connection,
                        flags | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE, NULL) != SQLITE_OK) {
        status = database_fail(self, "cannot open the database", error);
        goto out;
    }
    sqlite3_busy_timeout(self->connection, DATABASE_BUSY_MILLISECONDS);
    if (access != DATABASE_READ) /* a refused database stays as it is */
        sqlite3_db_config(self->connection, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    status = database_execute(self,
                              "PRAGMA foreign_keys=ON; PRAGMA trusted_schema=OFF;"
                              "PRAGMA cell_size_check=ON; PRAGMA temp_store=MEMORY;"
                              "PRAGMA mmap_size=0; PRAGMA cache_size=-" CACHE_KIBIBYTES ";",
                              error);
    if (status == DIDI_OK && writer)
        status = writer_prepare(self, path, error);
    if (status == DIDI_OK && writer)
        sqlite3_db_config(self->connection, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0, NULL);
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

/* What is not UTF-8, which nobody who reads JSON takes, is shown as question marks. */
static void mend_text(char *text)
{
    for (size_t left = strlen(text); left > 0;) {
        size_t length = text_character(text, left);
        if (length == 0)
            *text = '?';
        text += length > 0 ? length : 1;
        left -= length > 0 ? length : 1;
    }
}

static int read_string(const char *text, char **ret_text, didi_error *error)
{
    *ret_text = memory_string(text);
    if (*ret_text == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    mend_text(*ret_text);
    return DIDI_OK;
}

/* The schema lets no such row in: a bit of the file has changed. */
static int row_damaged(const row_kind *kind, sqlite3_stmt *statement, int column, didi_error *error)
{
    const char *first = (const char *)sqlite3_column_text(statement, 0);
    bool shown = first != NULL && text_is_utf8(first, strlen(first));
    return didi_fail(error, DIDI_FORMAT, "didid.db", "the row of %s %.64s is damaged: its %s",
                     kind->noun != NULL ? kind->noun : "something", shown ? first : "?",
                     sqlite3_column_name(statement, column));
}

/* An object or an array, as the daemon writes it. */
static bool is_json(const char *text)
{
    json_scan *scan = NULL;
    if (text[0] != '{' && text[0] != '[')
        return false;
    int status = json_scan_new(text, strlen(text), "didid.db", "row", &scan, NULL);
    if (status == DIDI_OK)
        status = json_scan_skip(scan, NULL);
    if (status == DIDI_OK)
        status = json_scan_end(scan, NULL);
    json_scan_free(scan);
    return status != DIDI_FORMAT;
}

/* NULL passes where the column may be NULL. */
static bool text_fits(const row_kind *kind, column_kind column, const char *text)
{
    if (text == NULL)
        return column == COLUMN_TEXT || column == COLUMN_STRING;
    if (column == COLUMN_JSON)
        return text_is_utf8(text, strlen(text)) && is_json(text);
    return column != COLUMN_STATE ||
           text_find(kind->states, kind->state_count, text) < kind->state_count;
}

static int read_text(const row_kind *kind, sqlite3_stmt *statement, int i, void *target,
                     didi_error *error)
{
    const struct row_column *column = &kind->columns[i];
    bool null = sqlite3_column_type(statement, i) == SQLITE_NULL;
    const char *text = null ? NULL : (const char *)sqlite3_column_text(statement, i);
    if (text == NULL && !null)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    if (!text_fits(kind, column->kind, text))
        return row_damaged(kind, statement, i, error);
    if (column->kind == COLUMN_STATE)
        *(unsigned *)target = (unsigned)text_find(kind->states, kind->state_count, text);
    else if (column->kind == COLUMN_TEXT)
        mend_text(sqlite3_snprintf((int)column->bytes, target, "%s", null ? "" : text));
    else if (!null)
        return read_string(text, target, error);
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
        if (column->kind == COLUMN_INTEGER)
            read_integer(sqlite3_column_int64(statement, i), target, column->bytes);
        else if (column->kind == COLUMN_REAL)
            *(double *)target = null ? NAN : sqlite3_column_double(statement, i);
        else
            status = read_text(kind, statement, i, target, error);
    }
    if (status != DIDI_OK)
        row_clear(kind, ret_row);
    return status;
}

static bool is_string(column_kind kind)
{
    return kind == COLUMN_STRING || kind == COLUMN_GIVEN || kind == COLUMN_JSON;
}

void row_clear(const row_kind *kind, void *row)
{
    for (size_t i = 0; kind->columns[i].bytes != 0; i++)
        if (is_string(kind->columns[i].kind))
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

int database_new_id(database *self, int64_t now_ms, char ret_id[ID_BYTES], didi_error *error)
{
    static const store_query newest[] = {QUERY_JOB_NEWEST_ID,    QUERY_EXPORT_NEWEST_ID,
                                         QUERY_FETCH_NEWEST_ID,  QUERY_WEBHOOK_NEWEST_ID,
                                         QUERY_TOKEN_NEWEST_ID,  QUERY_HOOK_DELIVERY_NEWEST_ID,
                                         QUERY_UPLOAD_NEWEST_ID, QUERY_BAKEOFF_NEWEST_ID};
    bool known = self->newest_id[0] != '\0';
    assert(sqlite3_db_readonly(self->connection, "main") == 0);
    for (size_t i = 0; !known && i < sizeof newest / sizeof newest[0]; i++) {
        int status = load_newest_id(self, newest[i], error);
        if (status != DIDI_OK)
            return status;
    }
    if (id_next(now_ms, self->newest_id, ret_id) != 0)
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
