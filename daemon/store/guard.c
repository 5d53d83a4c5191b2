/* SPDX-License-Identifier: Apache-2.0 */
/* Before a database is used: is it there, whole, ours, and as new as it was? */
#include "daemon/store/guard.h"

#include "daemon/base/base.h"
#include "daemon/store/database.h"
#include "daemon/store/mark.h"
#include "daemon/store/schema.h"
#include "src/base/base.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    GUARD_HEADER_BYTES = 100,
    GUARD_HEADER_PAGE_SIZE = 16, /* offsets of big-endian numbers in an SQLite file's header */
    GUARD_HEADER_PAGES = 28,
    GUARD_HEADER_VERSION = 60,
    GUARD_HEADER_APPLICATION = 68,
};

static const char *const database_names[] = {"didid.db", "didid.db-wal", "didid.db-shm"};
enum { DATABASE_NAMES = sizeof database_names / sizeof database_names[0] };

static void report(guard_report *self, guard_verdict verdict, const char *detail)
{
    self->verdict = verdict;
    (void)snprintf(self->detail, sizeof self->detail, "%s", detail);
}

static int count_directory(void *context, const char *name, didi_error *error)
{
    size_t *count = context;
    (void)error;
    *count += id_is_valid(name);
    return *count < GUARD_DIRECTORIES_MAX ? DIDI_OK : DIDI_CANCELLED;
}

static int count_directories(int directory_fd, size_t *ret_count, didi_error *error)
{
    didi_error ignored = {0};
    int fd = -1;
    int status = file_open_directory(directory_fd, "jobs", 0, &fd, &ignored);
    if (status == DIDI_NOT_FOUND)
        return DIDI_OK;
    if (status == DIDI_OK)
        status = file_each_entry(fd, count_directory, ret_count, &ignored);
    file_close(fd);
    if (status == DIDI_OK || status == DIDI_CANCELLED)
        return DIDI_OK;
    return didi_fail(error, status, "jobs", "%s", ignored.message);
}

static uint32_t header_number(const unsigned char *header, int offset)
{
    return (uint32_t)header[offset] << 24 | (uint32_t)header[offset + 1] << 16 |
           (uint32_t)header[offset + 2] << 8 | header[offset + 3];
}

int guard_check_file(int fd, const char *subject, int64_t *ret_version, didi_error *error)
{
    unsigned char header[GUARD_HEADER_BYTES] = {0};
    struct stat facts;
    if (fstat(fd, &facts) != 0)
        return didi_fail_errno(error, errno, subject, "cannot look at %s", subject);
    if (facts.st_size < GUARD_HEADER_BYTES)
        return didi_fail(error, DIDI_FORMAT, subject, "%s has %lld bytes, no database does",
                         subject, (long long)facts.st_size);
    int status = file_pread_all(fd, header, sizeof header, 0, subject, error);
    if (status != DIDI_OK)
        return status;
    if (memcmp(header, "SQLite format 3", 16) != 0)
        return didi_fail(error, DIDI_FORMAT, subject, "%s is no SQLite database", subject);
    const uint32_t field = header_number(header, GUARD_HEADER_PAGE_SIZE) >> 16;
    const uint64_t page = field == 1 ? 65536 : field;
    const uint64_t pages = header_number(header, GUARD_HEADER_PAGES);
    if ((uint64_t)facts.st_size < page * pages)
        return didi_fail(error, DIDI_FORMAT, subject,
                         "%s is cut short: %lld bytes of %llu are there", subject,
                         (long long)facts.st_size, (unsigned long long)(page * pages));
    *ret_version = (int32_t)header_number(header, GUARD_HEADER_VERSION);
    return DIDI_OK;
}

/* Plain files, the database not empty. True: the report is not made yet. */
static int check_files(int directory_fd, guard_report *self, bool *ret_go_on, didi_error *error)
{
    struct stat facts;
    bool there[DATABASE_NAMES] = {false};
    for (size_t i = 0; i < DATABASE_NAMES; i++) {
        if (fstatat(directory_fd, database_names[i], &facts, AT_SYMLINK_NOFOLLOW) == 0) {
            there[i] = facts.st_size > 0;
            if (!S_ISREG(facts.st_mode)) {
                char text[128];
                (void)snprintf(text, sizeof text, "%s is %s", database_names[i],
                               S_ISLNK(facts.st_mode) ? "a link" : "no plain file");
                report(self, GUARD_LINK, text);
                return DIDI_OK;
            }
        } else if (errno != ENOENT) {
            return didi_fail_errno(error, errno, database_names[i], "cannot look at %s",
                                   database_names[i]);
        }
    }
    if (there[0])
        *ret_go_on = true;
    else if (there[1])
        report(self, GUARD_MISSING, "the database is missing or empty, but its log is there");
    else
        report(self, GUARD_NEW, "");
    return DIDI_OK;
}

/* What the database tells of itself against the mark, found or not. */
static int compare_mark(database *found, int directory_fd, guard_report *self, bool *ret_marked,
                        didi_error *error)
{
    database_mark mark = {0};
    database_mark own = {0};
    didi_error damaged = {0};
    char text[256];
    bool has_facts = false;
    int status = mark_read(directory_fd, &mark, ret_marked, &damaged);
    if (status == DIDI_FORMAT)
        self->mark_damaged = true;
    else if (status != DIDI_OK)
        return didi_fail(error, status, MARK_NAME, "%s", damaged.message);
    if (!*ret_marked)
        return DIDI_OK;
    status = schema_facts(found, &own, &has_facts, error);
    if (status != DIDI_OK)
        return status;
    if (has_facts && strcmp(own.database_id, mark.database_id) != 0) {
        report(self, GUARD_OTHER,
               "the database is not the one that this state directory was used with");
    } else if (own.commits < mark.commits) {
        (void)snprintf(text, sizeof text,
                       "the database went back in time: %lld of %lld commits are there; its log "
                       "was lost, or an old copy is in its place",
                       (long long)own.commits, (long long)mark.commits);
        report(self, GUARD_OLDER, text);
    }
    return DIDI_OK;
}

/* Jobs' directories, and a database that knows no job at all. */
static int compare_jobs(database *found, guard_report *self, didi_error *error)
{
    bool any = false;
    int status = schema_has_jobs(found, &any, error);
    if (status == DIDI_OK && !any && self->directories > 0)
        report(self, GUARD_MISSING, "the database has no jobs, but there are directories of some");
    return status;
}

static int examine_database(int directory_fd, const char *path, guard_report *self,
                            didi_error *error)
{
    database *found = NULL;
    bool marked = false;
    int status = database_open(path, DATABASE_LOOK, &found, error);
    if (status == DIDI_OK)
        status = schema_identify(found, &self->version, error);
    const bool used = status == DIDI_OK && self->version > 0;
    if (used)
        status = schema_look(found, error);
    if (used && status == DIDI_OK)
        status = compare_mark(found, directory_fd, self, &marked, error);
    if (used && status == DIDI_OK && !marked)
        status = compare_jobs(found, self, error);
    if (status == DIDI_OK && !used)
        report(self, GUARD_NEW, "");
    database_close(found);
    return status;
}

static int examine_content(int directory_fd, const char *directory, guard_report *self,
                           didi_error *error)
{
    didi_error found = {0};
    char *path = memory_format("%s/didid.db", directory);
    int fd = openat(directory_fd, "didid.db", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    int status = DIDI_OK;
    if (path == NULL)
        status = didi_fail(&found, DIDI_NO_MEMORY, NULL, "out of memory");
    else if (fd < 0)
        status = didi_fail_errno(&found, errno, "didid.db", "cannot open the database");
    if (status == DIDI_OK)
        status = guard_check_file(fd, "didid.db", &self->version, &found);
    file_close(fd);
    if (status == DIDI_OK && self->version <= STORE_MIGRATION_COUNT && self->version >= 0)
        status = examine_database(directory_fd, path, self, &found);
    else if (status == DIDI_OK)
        status = schema_refuse(self->version, &found);
    free(path);
    if (status == DIDI_FORMAT)
        report(self, GUARD_DAMAGED, found.message);
    else if (status == DIDI_CONFLICT)
        report(self, self->version > STORE_MIGRATION_COUNT ? GUARD_TOO_NEW : GUARD_FOREIGN,
               found.message);
    else if (status != DIDI_OK)
        return didi_fail(error, status, "didid.db", "%s", found.message);
    return DIDI_OK;
}

int guard_examine(int directory_fd, const char *directory, guard_report *ret_report,
                  didi_error *error)
{
    guard_report self = {.verdict = GUARD_GOOD};
    struct stat mark;
    bool go_on = false;
    int status = count_directories(directory_fd, &self.directories, error);
    if (status == DIDI_OK)
        status = check_files(directory_fd, &self, &go_on, error);
    if (status == DIDI_OK && go_on)
        status = examine_content(directory_fd, directory, &self, error);
    if (status != DIDI_OK)
        return status;
    if (self.verdict == GUARD_NEW &&
        (self.directories > 0 || fstatat(directory_fd, MARK_NAME, &mark, AT_SYMLINK_NOFOLLOW) == 0))
        report(&self, GUARD_MISSING,
               "the database is missing or empty, but this state directory was used before");
    *ret_report = self;
    return DIDI_OK;
}

int guard_set_aside(int directory_fd, char ret_name[64], didi_error *error)
{
    const long long now = clock_now_ms();
    ret_name[0] = '\0';
    for (size_t i = DATABASE_NAMES; i-- > 0;) {
        char name[64];
        (void)snprintf(name, sizeof name, "%s.aside-%lld", database_names[i], now);
        if (renameat2(directory_fd, database_names[i], directory_fd, name, RENAME_NOREPLACE) == 0)
            memcpy(ret_name, name, sizeof name);
        else if (errno != ENOENT)
            return didi_fail_errno(error, errno, database_names[i], "cannot set %s aside",
                                   database_names[i]);
    }
    return file_sync(directory_fd, "state directory", error);
}
