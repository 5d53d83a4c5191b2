/* SPDX-License-Identifier: Apache-2.0 */
/* A ring of digests of published files. */
#include "daemon/api/digest.h"

#include "src/base/base.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { API_DIGESTS_KEPT = 4096 };

/* Published files are never written again, so these four tell one from another. */
typedef struct digest_row {
    dev_t device;
    ino_t inode;
    off_t bytes;
    struct timespec modified;
    char hex[API_DIGEST_BYTES];
} digest_row;

struct api_digests {
    pthread_mutex_t lock;
    digest_row rows[API_DIGESTS_KEPT];
    size_t count, next;
};

api_digests *api_digests_create(void)
{
    api_digests *self = memory_zeroed(1, sizeof *self);
    if (self != NULL)
        pthread_mutex_init(&self->lock, NULL);
    return self;
}

void api_digests_free(api_digests *self)
{
    if (self != NULL) {
        pthread_mutex_destroy(&self->lock);
        free(self);
    }
}

static bool row_is(const digest_row *row, const struct stat *status)
{
    return row->device == status->st_dev && row->inode == status->st_ino &&
           row->bytes == status->st_size && row->modified.tv_sec == status->st_mtim.tv_sec &&
           row->modified.tv_nsec == status->st_mtim.tv_nsec;
}

static bool digests_find(api_digests *self, const struct stat *status, char *ret_hex)
{
    bool found = false;
    pthread_mutex_lock(&self->lock);
    for (size_t i = 0; i < self->count && !found; i++) {
        found = row_is(&self->rows[i], status);
        if (found)
            memcpy(ret_hex, self->rows[i].hex, API_DIGEST_BYTES);
    }
    pthread_mutex_unlock(&self->lock);
    return found;
}

static void digests_keep(api_digests *self, const struct stat *status, const char *hex)
{
    digest_row row = {.device = status->st_dev,
                      .inode = status->st_ino,
                      .bytes = status->st_size,
                      .modified = status->st_mtim};
    memcpy(row.hex, hex, API_DIGEST_BYTES);
    pthread_mutex_lock(&self->lock);
    self->rows[self->next] = row;
    self->next = (self->next + 1) % API_DIGESTS_KEPT;
    self->count += self->count < API_DIGESTS_KEPT;
    pthread_mutex_unlock(&self->lock);
}

int api_digests_of_file(api_digests *self, int fd, const struct stat *status,
                        char ret_hex[API_DIGEST_BYTES], didi_error *error)
{
    if (digests_find(self, status, ret_hex))
        return DIDI_OK;
    int code = file_sha256(fd, NULL, NULL, ret_hex, NULL, "artifact", error);
    if (code == DIDI_OK)
        digests_keep(self, status, ret_hex);
    return code;
}

void api_digest_etag(const char *hex, char ret_text[API_ETAG_BYTES])
{
    snprintf(ret_text, API_ETAG_BYTES, "\"sha256-%s\"", hex);
}
