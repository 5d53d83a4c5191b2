/* SPDX-License-Identifier: Apache-2.0 */
/* Versions of the schema, migration, and checks of a database. */
#define STORE_SQL_MIGRATIONS
#include "daemon/store/schema.h"

#include "daemon/base/base.h"
#include "src/base/base.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    SCHEMA_APPLICATION_ID = 0x64696469, /* "didi" */
    SCHEMA_WHOLE_LOOK_BYTES = 32 << 20, /* of a database that is checked whole at start */
};

int schema_refuse(int64_t version, didi_error *error)
{
    if (version < 0)
        return didi_fail(error, DIDI_CONFLICT, "didid.db", "the database is not one of didid");
    return didi_fail(error, DIDI_CONFLICT, "didid.db",
                     "the database has version %lld, of a newer didid; this one knows %d",
                     (long long)version, STORE_MIGRATION_COUNT);
}

int schema_identify(database *self, int64_t *ret_version, didi_error *error)
{
    int64_t application = 0;
    int64_t version = 0;
    int64_t tables = 0;
    int status = database_integer(self, "PRAGMA application_id", &application, error);
    if (status == DIDI_OK)
        status = database_integer(self, "PRAGMA user_version", &version, error);
    if (status == DIDI_OK)
        status = database_integer(self, "SELECT count(*) FROM sqlite_schema", &tables, error);
    if (status != DIDI_OK)
        return status;
    *ret_version = version;
    const bool empty = application == 0 && version == 0 && tables == 0;
    if (!empty && (application != SCHEMA_APPLICATION_ID || version < 1 || tables == 0))
        return schema_refuse(-1, error);
    return version > STORE_MIGRATION_COUNT ? schema_refuse(version, error) : DIDI_OK;
}

int schema_copy(database *self, const char *target, didi_error *error)
{
    char *statement = sqlite3_mprintf("VACUUM INTO %Q", target);
    if (statement == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    int status = database_execute(self, statement, error);
    sqlite3_free(statement);
    int fd = status == DIDI_OK ? open(target, O_RDONLY | O_CLOEXEC | O_NOFOLLOW) : -1;
    if (status == DIDI_OK && fd < 0)
        status = didi_fail_errno(error, errno, target, "cannot open the copy of the database");
    if (status == DIDI_OK)
        status = file_sync(fd, target, error);
    file_close(fd);
    return status;
}

/* Whole or not at all; an earlier one of the same version is replaced. */
static int keep_copy(database *self, const char *path, int64_t version, didi_error *error)
{
    char *copy = memory_format("%s.before-%lld", path, (long long)version);
    char *making = memory_format("%s.before-%lld.making", path, (long long)version);
    int status = copy != NULL && making != NULL
                     ? DIDI_OK
                     : didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    if (status == DIDI_OK && unlink(making) != 0 && errno != ENOENT)
        status = didi_fail_errno(error, errno, making, "cannot remove %s", making);
    if (status == DIDI_OK)
        status = schema_copy(self, making, error);
    if (status == DIDI_OK)
        status = file_rename(AT_FDCWD, making, AT_FDCWD, copy, error);
    if (status == DIDI_OK)
        log_emit(LOG_LEVEL_INFO, "the database was copied before it is brought to a new version",
                 LOG_TEXT("copy", copy), LOG_INTEGER("version", version));
    else if (making != NULL)
        (void)unlink(making);
    free(copy);
    free(making);
    return status;
}

static int migrate_step(database *self, int64_t version, didi_error *error)
{
    char mark[96];
    sqlite3_snprintf(sizeof mark, mark, "PRAGMA application_id=%d; PRAGMA user_version=%lld;",
                     SCHEMA_APPLICATION_ID, (long long)version + 1);
    int status = database_execute(self, "BEGIN IMMEDIATE", error);
    if (status != DIDI_OK)
        return status;
    status = database_execute(self, store_migrations[version], error);
    if (status == DIDI_OK)
        status = database_execute(self, mark, error);
    if (status == DIDI_OK)
        status = fault_check(FAULT_MIGRATE, "didid.db", error);
    if (status == DIDI_OK)
        status = database_execute(self, "COMMIT", error);
    if (status != DIDI_OK)
        sqlite3_exec(self->connection, "ROLLBACK", NULL, NULL, NULL);
    return status;
}

int schema_migrate(database *self, const char *path, didi_error *error)
{
    int64_t version = 0;
    int status = schema_identify(self, &version, error);
    if (status == DIDI_OK && version > 0 && version < STORE_MIGRATION_COUNT)
        status = keep_copy(self, path, version, error);
    for (; status == DIDI_OK && version < STORE_MIGRATION_COUNT; version++)
        status = migrate_step(self, version, error);
    return status;
}

int schema_check(database *self, size_t most, void (*found)(void *context, const char *line),
                 void *context, didi_error *error)
{
    sqlite3_stmt *statement = NULL;
    char text[64];
    sqlite3_snprintf(sizeof text, text, "PRAGMA integrity_check(%d)", (int)most);
    int code = sqlite3_prepare_v2(self->connection, text, -1, &statement, NULL);
    while (code == SQLITE_OK || code == SQLITE_ROW) {
        code = sqlite3_step(statement);
        const char *line =
            code == SQLITE_ROW ? (const char *)sqlite3_column_text(statement, 0) : NULL;
        if (line != NULL && strcmp(line, "ok") != 0)
            found(context, line);
    }
    int status =
        code == SQLITE_DONE ? DIDI_OK : database_fail(self, "cannot check the database", error);
    sqlite3_finalize(statement);
    code = status == DIDI_OK ? sqlite3_prepare_v2(self->connection, "PRAGMA foreign_key_check", -1,
                                                  &statement, NULL)
                             : SQLITE_DONE;
    for (size_t lines = 0; code == SQLITE_OK || (code == SQLITE_ROW && lines < most); lines++) {
        code = sqlite3_step(statement);
        if (code == SQLITE_ROW) {
            char line[160];
            sqlite3_snprintf(sizeof line, line, "a row of %s names one of %s that is not there",
                             sqlite3_column_text(statement, 0), sqlite3_column_text(statement, 2));
            found(context, line);
        }
    }
    if (status == DIDI_OK) {
        if (code != SQLITE_DONE && code != SQLITE_ROW)
            status = database_fail(self, "cannot check the database", error);
        sqlite3_finalize(statement);
    }
    return status;
}

static void first_line(void *context, const char *line)
{
    char *text = context;
    if (text[0] == '\0')
        sqlite3_snprintf(200, text, "%s", line);
}

/* One row over each table and index that there is. */
static int look_at_all(database *self, didi_error *error)
{
    sqlite3_stmt *names = NULL;
    int status = DIDI_OK;
    int code = sqlite3_prepare_v2(
        self->connection, "SELECT name FROM sqlite_schema WHERE type = 'table'", -1, &names, NULL);
    while (status == DIDI_OK && (code == SQLITE_OK || code == SQLITE_ROW)) {
        code = sqlite3_step(names);
        if (code != SQLITE_ROW)
            break;
        int64_t ignored = 0;
        char *text = sqlite3_mprintf("SELECT count(*) FROM (SELECT * FROM \"%w\" LIMIT 1)",
                                     sqlite3_column_text(names, 0));
        status = text != NULL ? database_integer(self, text, &ignored, error)
                              : didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
        sqlite3_free(text);
    }
    if (status == DIDI_OK && code != SQLITE_DONE)
        status = database_fail(self, "cannot read the database", error);
    sqlite3_finalize(names);
    return status;
}

int schema_look(database *self, didi_error *error)
{
    int64_t pages = 0;
    int64_t page = 0;
    char wrong[200] = "";
    int status = look_at_all(self, error);
    if (status == DIDI_OK)
        status = database_integer(self, "PRAGMA page_count", &pages, error);
    if (status == DIDI_OK)
        status = database_integer(self, "PRAGMA page_size", &page, error);
    if (status != DIDI_OK || pages > SCHEMA_WHOLE_LOOK_BYTES / page)
        return status;
    status = schema_check(self, 1, first_line, wrong, error);
    if (status == DIDI_OK && wrong[0] != '\0')
        return didi_fail(error, DIDI_FORMAT, "didid.db", "the database is damaged: %s", wrong);
    return status;
}

int schema_facts(database *self, database_mark *ret_facts, bool *ret_has, didi_error *error)
{
    static const row_kind row_of_facts = {.bytes = sizeof(database_mark),
                                          .columns = {ROW_COLUMN(database_mark, TEXT, database_id),
                                                      ROW_COLUMN(database_mark, INTEGER, commits)}};
    int64_t tables = 0;
    int status = database_integer(
        self, "SELECT count(*) FROM sqlite_schema WHERE name = 'store_facts'", &tables, error);
    *ret_has = status == DIDI_OK && tables > 0;
    if (!*ret_has)
        return status;
    status = database_row(self, QUERY_FACTS_SELECT, NULL, &row_of_facts, ret_facts, ret_has, error);
    if (status == DIDI_OK && !*ret_has)
        return didi_fail(error, DIDI_FORMAT, "didid.db", "the database has lost its id");
    return status;
}

int schema_has_jobs(database *self, bool *ret_any, didi_error *error)
{
    int64_t any = 0;
    int status = database_integer(self, "SELECT EXISTS (SELECT 1 FROM jobs)", &any, error);
    *ret_any = any != 0;
    return status;
}
