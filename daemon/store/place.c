/* SPDX-License-Identifier: Apache-2.0 */
/* The identity of the state directory and of the files of its database. */
#include "daemon/store/place.h"

#include "src/base/base.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const place_names[] = {".", "didid.db", "didid.db-wal", MARK_NAME};
enum { PLACE_NAMES = sizeof place_names / sizeof place_names[0] };

struct place {
    char *paths[PLACE_NAMES];
    struct place_identity {
        dev_t device;
        ino_t inode;
    } identities[PLACE_NAMES];
    int mark_fd;
};

static int place_remember(place *self, size_t index, const char *directory, didi_error *error)
{
    struct stat facts;
    self->paths[index] = memory_format("%s/%s", directory, place_names[index]);
    if (self->paths[index] == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    if (stat(self->paths[index], &facts) != 0)
        return didi_fail_errno(error, errno, self->paths[index], "cannot look at %s",
                               self->paths[index]);
    self->identities[index].device = facts.st_dev;
    self->identities[index].inode = facts.st_ino;
    return DIDI_OK;
}

int place_open(const char *directory, place **ret_place, didi_error *error)
{
    place *self = memory_zeroed(1, sizeof *self);
    int status = DIDI_OK;
    if (self == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    self->mark_fd = -1;
    for (size_t i = 0; i < PLACE_NAMES && status == DIDI_OK; i++)
        status = place_remember(self, i, directory, error);
    if (status == DIDI_OK) {
        self->mark_fd = open(self->paths[PLACE_NAMES - 1], O_RDWR | O_CLOEXEC | O_NOFOLLOW);
        if (self->mark_fd < 0)
            status = didi_fail_errno(error, errno, MARK_NAME, "cannot open %s", MARK_NAME);
    }
    if (status == DIDI_OK)
        *ret_place = self;
    else
        place_close(self);
    return status;
}

void place_close(place *self)
{
    if (self == NULL)
        return;
    for (size_t i = 0; i < PLACE_NAMES; i++)
        free(self->paths[i]);
    file_close(self->mark_fd);
    free(self);
}

int place_check(const place *self, didi_error *error)
{
    for (size_t i = 0; i < PLACE_NAMES; i++) {
        const struct place_identity *known = &self->identities[i];
        struct stat facts;
        if (stat(self->paths[i], &facts) != 0 || facts.st_dev != known->device ||
            facts.st_ino != known->inode)
            return didi_fail(error, DIDI_IO, self->paths[i],
                             "%s was deleted or replaced while the daemon uses it; nothing is "
                             "written any more: stop the daemon and restore the state directory",
                             i == 0 ? "the state directory" : place_names[i]);
    }
    return DIDI_OK;
}

int place_mark(const place *self, const database_mark *mark, didi_error *error)
{
    return mark_write(self->mark_fd, mark, error);
}

void place_settle(const place *self)
{
    didi_error ignored = {0};
    if (self != NULL)
        (void)file_sync(self->mark_fd, MARK_NAME, &ignored);
}
