/* SPDX-License-Identifier: Apache-2.0 */
/* Backup and restore of the database file. */
#include "daemon/store/backup.h"

#include "daemon/store/guard.h"
#include "daemon/store/mark.h"
#include "daemon/store/schema.h"
#include "daemon/store/writer.h"
#include "src/base/base.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define RESTORING "didid.db.restoring"
enum { COPY_BYTES = 1 << 20 };

int store_backup(store *self, const char *target, didi_error *error)
{
    database *reader = NULL;
    int status = store_reader_borrow(self, &reader, error);
    if (status != DIDI_OK)
        return status;
    status = schema_copy(reader, target, error);
    store_reader_return(self, reader);
    return status;
}

static int copy_bytes(int from, int to, const char *subject, didi_error *error)
{
    char *buffer = memory_aligned(COPY_BYTES, 1);
    uint64_t offset = 0;
    struct stat facts;
    int status = buffer != NULL ? DIDI_OK : didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    if (status == DIDI_OK && (fstat(from, &facts) != 0 || !S_ISREG(facts.st_mode)))
        status = didi_fail(error, DIDI_FORMAT, subject, "%s is not a file", subject);
    while (status == DIDI_OK && offset < (uint64_t)facts.st_size) {
        const size_t step = (size_t)smaller(COPY_BYTES, (uint64_t)facts.st_size - offset);
        status = file_pread_all(from, buffer, step, offset, subject, error);
        if (status == DIDI_OK)
            status = file_pwrite_all(to, buffer, step, offset, RESTORING, error);
        offset += step;
    }
    free(buffer);
    return status == DIDI_OK ? file_sync(to, RESTORING, error) : status;
}

static void keep_first(void *context, const char *line)
{
    char *text = context;
    if (text[0] == '\0')
        sqlite3_snprintf(200, text, "%s", line);
}

/* The copy is as good as one can be; gives the mark for it. */
static int check_copy(const char *path, database_mark *ret_mark, bool *ret_has, didi_error *error)
{
    database *found = NULL;
    int64_t version = 0;
    char wrong[200] = "";
    int status = database_open(path, DATABASE_LOOK, &found, error);
    if (status == DIDI_OK)
        status = schema_identify(found, &version, error);
    if (status == DIDI_OK && version == 0)
        status = didi_fail(error, DIDI_CONFLICT, path, "the file is empty, not a backup of didid");
    if (status == DIDI_OK)
        status = schema_check(found, 1, keep_first, wrong, error);
    if (status == DIDI_OK && wrong[0] != '\0')
        status = didi_fail(error, DIDI_FORMAT, path, "the backup is damaged: %s", wrong);
    if (status == DIDI_OK)
        status = schema_facts(found, ret_mark, ret_has, error);
    database_close(found);
    return status;
}

static int copy_in(int directory_fd, const char *path, didi_error *error)
{
    int64_t version = 0;
    int from = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (from < 0)
        return didi_fail_errno(error, errno, path, "cannot open %s", path);
    int to = -1;
    int status = guard_check_file(from, path, &version, error);
    if (status == DIDI_OK && unlinkat(directory_fd, RESTORING, 0) != 0 && errno != ENOENT)
        status = didi_fail_errno(error, errno, RESTORING, "cannot remove %s", RESTORING);
    if (status == DIDI_OK) {
        to = openat(directory_fd, RESTORING, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0640);
        if (to < 0)
            status = didi_fail_errno(error, errno, RESTORING, "cannot make %s", RESTORING);
    }
    if (status == DIDI_OK)
        status = copy_bytes(from, to, path, error);
    file_close(to);
    file_close(from);
    return status;
}

/* The old one aside, the new one in its place, then its mark: a crash between leaves a start that
 * is refused, and the restore can be repeated. */
static int put_in_place(int directory_fd, const database_mark *mark, bool has_mark,
                        char ret_aside[64], didi_error *error)
{
    struct stat facts;
    int status = DIDI_OK;
    ret_aside[0] = '\0';
    if (fstatat(directory_fd, "didid.db", &facts, AT_SYMLINK_NOFOLLOW) == 0 ||
        fstatat(directory_fd, "didid.db-wal", &facts, AT_SYMLINK_NOFOLLOW) == 0)
        status = guard_set_aside(directory_fd, ret_aside, error);
    if (status == DIDI_OK)
        status = file_rename(directory_fd, RESTORING, directory_fd, "didid.db", error);
    if (status == DIDI_OK && has_mark)
        status = mark_replace(directory_fd, mark, error);
    else if (status == DIDI_OK && unlinkat(directory_fd, MARK_NAME, 0) != 0 && errno != ENOENT)
        status = didi_fail_errno(error, errno, MARK_NAME, "cannot remove %s", MARK_NAME);
    return status == DIDI_OK ? file_sync(directory_fd, "state directory", error) : status;
}

int store_restore(int directory_fd, const char *directory, const char *path, char ret_aside[64],
                  didi_error *error)
{
    database_mark mark = {0};
    bool has_mark = false;
    char *copy = memory_format("%s/%s", directory, RESTORING);
    int status = copy != NULL ? copy_in(directory_fd, path, error)
                              : didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    if (status == DIDI_OK)
        status = check_copy(copy, &mark, &has_mark, error);
    if (status == DIDI_OK)
        status = put_in_place(directory_fd, &mark, has_mark, ret_aside, error);
    if (status != DIDI_OK && status != DIDI_NO_MEMORY)
        (void)unlinkat(directory_fd, RESTORING, 0);
    free(copy);
    return status;
}
