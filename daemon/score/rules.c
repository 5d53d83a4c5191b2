/* SPDX-License-Identifier: Apache-2.0 */
/* Landlock. Its rights and its structs are said here, since Debian's headers are older than the
 * kernels that people run; each version of the interface adds rights and takes none away. */
#include "daemon/score/rules.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <limits.h>
#include <linux/landlock.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Newer than linux/landlock.h of Debian 12. */
#define RIGHT_TRUNCATE (UINT64_C(1) << 14) /* version 3 */
#define RIGHT_IOCTL (UINT64_C(1) << 15)    /* version 5 */
#define NET_BIND_AND_CONNECT UINT64_C(3)   /* version 4 */
#define SCOPE_SOCKETS_AND_SIGNALS UINT64_C(3)

#define RIGHTS_WRITE                                                                               \
    (LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR |                               \
     LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG |  \
     LANDLOCK_ACCESS_FS_MAKE_FIFO | LANDLOCK_ACCESS_FS_MAKE_SYM | LANDLOCK_ACCESS_FS_REFER |       \
     RIGHT_TRUNCATE)
#define RIGHTS_MAKE_SPECIAL                                                                        \
    (LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_BLOCK | LANDLOCK_ACCESS_FS_MAKE_SOCK)
#define RIGHTS_OF_FILES                                                                            \
    (LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_READ_FILE | RIGHT_TRUNCATE | RIGHT_IOCTL)

typedef struct ruleset_attributes {
    uint64_t files, net, scoped;
} ruleset_attributes;

typedef struct ruleset {
    int fd;
    uint64_t handled; /* rights to files */
    char **hidden;    /* without links; NULL: not there */
    size_t hidden_count;
} ruleset;

int rules_version(void)
{
    long version = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    return version > 0 ? (int)version : 0;
}

static int add_rule(const ruleset *self, int fd, uint64_t rights, const char *subject,
                    didi_error *error)
{
    struct stat found;
    if (fstat(fd, &found) != 0)
        return didi_fail_errno(error, errno, subject, "cannot stat");
    if (!S_ISDIR(found.st_mode))
        rights &= RIGHTS_OF_FILES;
    struct landlock_path_beneath_attr rule = {.allowed_access = rights & self->handled,
                                              .parent_fd = fd};
    if (rule.allowed_access == 0 ||
        syscall(SYS_landlock_add_rule, self->fd, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) == 0)
        return DIDI_OK;
    return didi_fail_errno(error, errno, subject, "cannot make a rule for a scorer's files");
}

/* What is not there, or is a link, needs no rule. */
static int add_path(const ruleset *self, const char *path, uint64_t rights, didi_error *error)
{
    struct stat found;
    int status = DIDI_OK;
    int fd = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return DIDI_OK;
    if (fstat(fd, &found) != 0 || !S_ISLNK(found.st_mode))
        status = add_rule(self, fd, rights, path, error);
    close(fd);
    return status;
}

static int add_devices(const ruleset *self, didi_error *error)
{
    static const char *const patterns[] = {"/dev/null", "/dev/zero",    "/dev/full",
                                           "/dev/kfd",  "/dev/nvidia*", "/dev/dri"};
    const uint64_t rights = LANDLOCK_ACCESS_FS_WRITE_FILE | RIGHT_TRUNCATE | RIGHT_IOCTL;
    int status = DIDI_OK;
    for (size_t i = 0; i < sizeof patterns / sizeof *patterns && status == DIDI_OK; i++) {
        glob_t found = {0};
        if (glob(patterns[i], 0, NULL, &found) == 0)
            for (size_t k = 0; k < found.gl_pathc && status == DIDI_OK; k++)
                status = add_path(self, found.gl_pathv[k], rights, error);
        globfree(&found);
    }
    return status;
}

/* ---- reading: rights only add up, so that what is hidden is left out of what is allowed ---- */

typedef struct reading {
    const ruleset *rules;
    const char *path; /* of a directory, without a slash at its end; "" for the root */
} reading;

typedef enum relation { RELATION_NONE, RELATION_SAME, RELATION_ABOVE } relation;

/* How a path stands to what is hidden. */
static relation relate(const ruleset *self, const char *path)
{
    size_t length = strlen(path);
    relation found = RELATION_NONE;
    for (size_t i = 0; i < self->hidden_count; i++) {
        const char *hidden = self->hidden[i];
        if (hidden == NULL || strncmp(hidden, path, length) != 0)
            continue;
        if (hidden[length] == '\0')
            return RELATION_SAME;
        if (hidden[length] == '/')
            found = RELATION_ABOVE;
    }
    return found;
}

static int allow_reading(const ruleset *rules, const char *path, didi_error *error);

static int allow_entry(void *context, const char *name, didi_error *error)
{
    const reading *self = context;
    char *path = memory_format("%s/%s", self->path, name);
    if (path == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    int status = DIDI_OK;
    relation found = relate(self->rules, path);
    if (found == RELATION_NONE)
        status = add_path(self->rules, path, LANDLOCK_ACCESS_FS_READ_FILE, error);
    else if (found == RELATION_ABOVE)
        status = allow_reading(self->rules, path, error);
    free(path);
    return status;
}

/* All beneath a directory that is above something hidden. As deep as that path is. */
static int allow_reading(const ruleset *rules, const char *path, didi_error *error)
{
    reading self = {.rules = rules, .path = path};
    int fd = open(path[0] != '\0' ? path : "/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return didi_fail_errno(error, errno, path, "cannot open");
    int status = file_each_entry(fd, allow_entry, &self, error);
    close(fd);
    return status;
}

/* ---- all together ---- */

static int ruleset_open(ruleset *self, int version, bool hides, didi_error *error)
{
    self->handled = RIGHTS_WRITE | RIGHTS_MAKE_SPECIAL | RIGHT_IOCTL |
                    (hides ? LANDLOCK_ACCESS_FS_READ_FILE : 0);
    if (version < 2)
        self->handled &= ~(uint64_t)LANDLOCK_ACCESS_FS_REFER;
    if (version < 3)
        self->handled &= ~RIGHT_TRUNCATE;
    if (version < 5)
        self->handled &= ~RIGHT_IOCTL;
    const ruleset_attributes attributes = {
        .files = self->handled,
        .net = version >= 4 ? NET_BIND_AND_CONNECT : 0,
        .scoped = version >= RULES_VERSION_SIGNALS ? SCOPE_SOCKETS_AND_SIGNALS : 0};
    self->fd = (int)syscall(SYS_landlock_create_ruleset, &attributes, sizeof attributes, 0);
    return self->fd >= 0 ? DIDI_OK : didi_fail_errno(error, errno, NULL, "cannot confine a scorer");
}

static int ruleset_fill(const ruleset *self, int directory_fd, didi_error *error)
{
    const uint64_t own = RIGHTS_WRITE | LANDLOCK_ACCESS_FS_READ_FILE;
    int status = add_rule(self, directory_fd, own, "directory of a model", error);
    if (status == DIDI_OK)
        status = add_devices(self, error);
    if (status == DIDI_OK && (self->handled & LANDLOCK_ACCESS_FS_READ_FILE) != 0)
        status = allow_reading(self, "", error);
    return status;
}

int rules_make(int directory_fd, const char *const *hidden, size_t hidden_count, int *ret_fd,
               didi_error *error)
{
    ruleset self = {.fd = -1};
    int version = rules_version();
    size_t there = 0;
    int status = DIDI_OK;
    if (version == 0)
        return didi_fail(error, DIDI_INVALID, NULL, "this kernel has no Landlock");
    self.hidden = memory_zeroed(hidden_count, sizeof *self.hidden);
    if (self.hidden == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    self.hidden_count = hidden_count;
    for (size_t i = 0; i < hidden_count; i++) {
        self.hidden[i] = realpath(hidden[i], NULL);
        there += self.hidden[i] != NULL;
    }
    status = ruleset_open(&self, version, there > 0, error);
    if (status == DIDI_OK)
        status = ruleset_fill(&self, directory_fd, error);
    for (size_t i = 0; i < hidden_count; i++)
        free(self.hidden[i]);
    free(self.hidden);
    if (status == DIDI_OK)
        *ret_fd = self.fd;
    else
        file_close(self.fd);
    return status;
}
