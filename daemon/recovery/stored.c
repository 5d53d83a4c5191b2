/* SPDX-License-Identifier: Apache-2.0 */
/* The jobs of a bucket. */
#include "daemon/recovery/stored.h"
#include "daemon/s3/s3.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct stored {
    s3 *client;
    char bucket[S3_BUCKET_BYTES];
    char prefix[S3_KEY_BYTES]; /* "" or with a slash at its end */
    stored_job *jobs;
    size_t count, room;
};

int stored_open(const config *settings, stored **ret_stored, didi_error *error)
{
    const s3_rules rules = s3_rules_of(settings);
    *ret_stored = NULL;
    if (settings->artifact_store == NULL)
        return DIDI_OK;
    stored *self = memory_zeroed(1, sizeof *self);
    if (self == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    int status =
        s3_parse_url(settings->artifact_store, "artifact_store", self->bucket, self->prefix, error);
    const size_t length = status == DIDI_OK ? strlen(self->prefix) : 0;
    if (length > 0 && length + 1 < sizeof self->prefix)
        (void)snprintf(self->prefix + length, sizeof self->prefix - length, "/");
    if (status == DIDI_OK)
        status = s3_open(&rules, &self->client, error);
    if (status == DIDI_OK)
        *ret_stored = self;
    else
        stored_close(self);
    return status;
}

void stored_close(stored *self)
{
    if (self == NULL)
        return;
    s3_close(self->client);
    free(self->jobs);
    free(self);
}

/* PREFIX/JOB/NAME; other keys are not of jobs. */
static int take_key(void *context, const char *key, uint64_t bytes, const char *etag,
                    didi_error *error)
{
    stored *self = context;
    char id[ID_BYTES];
    (void)bytes;
    (void)etag;
    if (strncmp(key, self->prefix, strlen(self->prefix)) != 0)
        return DIDI_OK;
    const char *name = key + strlen(self->prefix);
    const size_t length = strcspn(name, "/");
    if (length >= sizeof id || name[length] != '/')
        return DIDI_OK;
    (void)snprintf(id, sizeof id, "%.*s", (int)length, name);
    if (!id_is_valid(id))
        return DIDI_OK;
    if (self->count == 0 || strcmp(self->jobs[self->count - 1].id, id) != 0) {
        stored_job *grown = memory_grown(self->jobs, self->count, &self->room, sizeof *self->jobs);
        if (grown == NULL)
            return didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
        self->jobs = grown;
        memcpy(self->jobs[self->count].id, id, sizeof id);
        self->jobs[self->count++].whole = false;
    }
    self->jobs[self->count - 1].whole |= strcmp(name + length, "/manifest.json") == 0;
    return DIDI_OK;
}

static int compare_jobs(const void *left, const void *right)
{
    return strcmp(((const stored_job *)left)->id, ((const stored_job *)right)->id);
}

/* A server may list keys in another order than that of bytes. */
static void merge_same(stored *self)
{
    size_t kept = 0;
    if (self->count > 0)
        qsort(self->jobs, self->count, sizeof *self->jobs, compare_jobs);
    for (size_t i = 0; i < self->count; i++)
        if (kept > 0 && strcmp(self->jobs[kept - 1].id, self->jobs[i].id) == 0)
            self->jobs[kept - 1].whole |= self->jobs[i].whole;
        else
            self->jobs[kept++] = self->jobs[i];
    self->count = kept;
}

int stored_list(stored *self, didi_error *error)
{
    const s3_object prefix = {.bucket = self->bucket, .key = self->prefix};
    self->count = 0;
    int status = s3_list(self->client, &prefix, STORED_OBJECTS_MAX, take_key, self, error);
    if (status != DIDI_OK)
        self->count = 0;
    merge_same(self);
    return status;
}

const stored_job *stored_jobs(const stored *self, size_t *ret_count)
{
    *ret_count = self->count;
    return self->jobs;
}

const stored_job *stored_find(const stored *self, const char *id)
{
    stored_job wanted = {.whole = false};
    if (self->count == 0 || strlen(id) >= sizeof wanted.id)
        return NULL;
    (void)snprintf(wanted.id, sizeof wanted.id, "%s", id);
    return bsearch(&wanted, self->jobs, self->count, sizeof *self->jobs, compare_jobs);
}

int stored_check(const stored *self, int job_fd, didi_error *error)
{
    const deposit_way way = {.client = self->client, .job_fd = job_fd};
    deposit *record = NULL;
    int status = deposit_read(job_fd, &record, error);
    for (size_t i = 0; status == DIDI_OK && i < record->count; i++)
        status = deposit_check(record, &way, &record->files[i], error);
    deposit_free(record);
    return status;
}

int stored_rebuild(const stored *self, int parent_fd, const char *id, didi_error *error)
{
    char prefix[S3_KEY_BYTES];
    deposit_way way = {.client = self->client, .job_fd = -1};
    const int length = snprintf(prefix, sizeof prefix, "%s%s", self->prefix, id);
    if (length < 0 || (size_t)length >= sizeof prefix)
        return didi_fail(error, DIDI_INVALID, "artifact_store", "the prefix is too long");
    int status = file_open_directory(parent_fd, id, 1, &way.job_fd, error);
    if (status == DIDI_OK)
        status = file_sync(parent_fd, id, error);
    if (status == DIDI_OK)
        status = deposit_rebuild(self->bucket, prefix, &way, error);
    if (status != DIDI_OK && way.job_fd >= 0) {
        (void)unlinkat(way.job_fd, DEPOSIT_RECORD, 0);
        (void)unlinkat(way.job_fd, DEPOSIT_PIECES, 0);
        (void)unlinkat(way.job_fd, "artifacts", AT_REMOVEDIR);
        (void)unlinkat(parent_fd, id, AT_REMOVEDIR); /* stays where it holds more */
    }
    file_close(way.job_fd);
    return status;
}
