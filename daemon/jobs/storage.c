/* SPDX-License-Identifier: Apache-2.0 */
/* Which jobs have their files at S3 alone, and which of these were brought back. */
#include "daemon/jobs/storage.h"

#include "daemon/jobs/bakeoff_internal.h"
#include "src/base/base.h"

#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    BROUGHT_MAX = 64,
    BROUGHT_SECONDS = 600, /* files that were brought back stay for, after their last use */
};

/* A job whose files were brought back, or are to be. */
typedef struct brought {
    char id[ID_BYTES];
    int64_t used_ms;
    bool wanted; /* in the background */
} brought;

struct storage {
    s3 *client;
    char bucket[S3_BUCKET_BYTES], prefix[S3_KEY_BYTES];
    bool stores;
    pthread_mutex_t restoring; /* one at a time writes to artifacts/ */
    pthread_mutex_t lock;      /* guards what follows */
    brought list[BROUGHT_MAX];
    size_t count;
    bool running; /* the loop's: a pool thread brings or removes */
    bool idle;    /* nothing ran when that thread began; its own while it runs */
};

int storage_create(scheduler *self, didi_error *error)
{
    const config *settings = self->config;
    const s3_rules rules = s3_rules_of(settings);
    struct storage *own = memory_zeroed(1, sizeof *own);
    if (own == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    pthread_mutex_init(&own->restoring, NULL);
    pthread_mutex_init(&own->lock, NULL);
    self->storage = own;
    own->stores = settings->artifact_store != NULL;
    int status = s3_open(&rules, &own->client, error);
    if (status == DIDI_OK && own->stores)
        status = s3_parse_url(settings->artifact_store, "artifact_store", own->bucket, own->prefix,
                              error);
    return status;
}

void storage_free(scheduler *self)
{
    if (self->storage == NULL)
        return;
    s3_close(self->storage->client);
    pthread_mutex_destroy(&self->storage->restoring);
    pthread_mutex_destroy(&self->storage->lock);
    free(self->storage);
    self->storage = NULL;
}

s3 *scheduler_s3(const scheduler *self)
{
    return self->storage->client;
}

/* ---- there ---- */

static int send_job(attempt *of, int job_fd, didi_error *error)
{
    scheduler *self = of->scheduler;
    const struct storage *own = self->storage;
    const deposit_way way = {.client = own->client, .job_fd = job_fd, .end = &of->upload_end};
    char prefix[S3_KEY_BYTES];
    deposit *record = NULL;
    const int length = snprintf(prefix, sizeof prefix, "%s%s%s", own->prefix,
                                own->prefix[0] != '\0' ? "/" : "", of->job.id);
    if (length < 0 || (size_t)length >= sizeof prefix)
        return didi_fail(error, DIDI_INVALID, "artifact_store", "the prefix is too long");
    int status = deposit_begin(job_fd, own->bucket, prefix, &of->upload_end, &record, error);
    if (status == DIDI_OK)
        status = deposit_send(record, &way, self->config->s3_part_bytes, error);
    deposit_free(record);
    return status;
}

void storage_send(attempt *of)
{
    scheduler *self = of->scheduler;
    didi_error why = {0};
    int job_fd = -1;
    if (!self->storage->stores)
        return;
    if (of->telemetry != NULL)
        telemetry_note(of->telemetry, "stores the artifacts at S3");
    int status = files_open_job(self, of->job.id, false, &job_fd, &why);
    if (status == DIDI_OK)
        status = send_job(of, job_fd, &why);
    file_close(job_fd);
    if (status == DIDI_OK)
        log_emit(LOG_LEVEL_INFO, "artifacts are stored at S3", LOG_TEXT("job", of->job.id));
    else if (status == DIDI_NOT_FOUND || status == DIDI_INVALID) /* nothing of the specification */
        status = didi_fail(&of->why, DIDI_STORAGE, why.subject, "%s", why.message);
    else
        of->why = why;
    of->status = status;
}

bool storage_delete(scheduler *self, int parent_fd, const char *name)
{
    didi_error why = {0};
    deposit *record = NULL;
    int job_fd = -1;
    if (file_open_directory(parent_fd, name, 0, &job_fd, NULL) != DIDI_OK)
        return true;
    const deposit_way way = {
        .client = self->storage->client, .job_fd = job_fd, .end = &self->stopping, .quick = true};
    int status = deposit_read(job_fd, &record, &why);
    if (status == DIDI_OK) {
        status = deposit_delete(record, &way, &why);
        if (status == DIDI_OK)
            (void)unlinkat(job_fd, DEPOSIT_RECORD, 0);
    }
    file_close(job_fd);
    deposit_free(record);
    /* Of a record that cannot be read nobody knows what to delete. */
    const bool done = status == DIDI_OK || status == DIDI_NOT_FOUND || status == DIDI_FORMAT;
    if (!done && status != DIDI_CANCELLED)
        log_emit(LOG_LEVEL_WARNING, "cannot delete artifacts at S3; will try again",
                 LOG_TEXT("job", name), LOG_TEXT("subject", why.subject),
                 LOG_TEXT("error", why.message));
    else if (status == DIDI_OK)
        log_emit(LOG_LEVEL_INFO, "artifacts at S3 are deleted", LOG_TEXT("job", name));
    return done;
}

/* ---- and back ---- */

static brought *find_brought(struct storage *own, const char *id)
{
    for (size_t i = 0; i < own->count; i++)
        if (strcmp(own->list[i].id, id) == 0)
            return &own->list[i];
    return NULL;
}

/* Notes that a job's files are wanted now. False: too many are. */
static bool note_use(struct storage *own, const char *id, bool wanted)
{
    pthread_mutex_lock(&own->lock);
    brought *found = find_brought(own, id);
    if (found == NULL && own->count < BROUGHT_MAX) {
        found = &own->list[own->count++];
        *found = (brought){0};
        (void)snprintf(found->id, sizeof found->id, "%s", id);
    }
    if (found != NULL) {
        found->used_ms = clock_monotonic_ms();
        found->wanted |= wanted;
    }
    pthread_mutex_unlock(&own->lock);
    return found != NULL;
}

void storage_trim(scheduler *self, const char *id, int job_fd)
{
    struct storage *own = self->storage;
    deposit *record = NULL;
    if (self->config->s3_keep_local != 0 || deposit_read(job_fd, &record, NULL) != DIDI_OK)
        return;
    pthread_mutex_lock(&own->lock);
    if (record->complete && find_brought(own, id) == NULL)
        deposit_trim(record, job_fd);
    pthread_mutex_unlock(&own->lock);
    deposit_free(record);
}

static bool all_are_here(const deposit *record, int job_fd)
{
    struct stat facts;
    int artifacts_fd = -1;
    assert(record != NULL);
    bool here = file_open_directory(job_fd, "artifacts", 0, &artifacts_fd, NULL) == DIDI_OK;
    for (size_t i = 0; i < record->count && here; i++)
        here = fstatat(artifacts_fd, record->files[i].name, &facts, AT_SYMLINK_NOFOLLOW) == 0;
    file_close(artifacts_fd);
    return here;
}

static int bring_back(scheduler *self, int job_fd, const deposit *record, didi_error *error)
{
    struct storage *own = self->storage;
    const deposit_way way = {.client = own->client, .job_fd = job_fd, .end = &self->stopping};
    pthread_mutex_lock(&own->restoring);
    int status = deposit_restore(record, &way, error);
    pthread_mutex_unlock(&own->restoring);
    return status;
}

int storage_open_package(scheduler *self, const char *id, bool may_wait, int *ret_fd,
                         didi_error *error)
{
    deposit *record = NULL;
    int job_fd = -1;
    int status = scheduler_open_deposit(self, id, &record, &job_fd, error);
    if (status == DIDI_NOT_FOUND)
        return scheduler_open_files(self, id, "artifacts", ret_fd, error);
    if (status != DIDI_OK)
        return status;
    const bool noted = note_use(self->storage, id, false); /* from here on none are removed */
    if (!noted)
        status = didi_fail(error, DIDI_CONFLICT, id,
                           "the files of %d jobs are brought back from S3 "
                           "already; try again later",
                           (int)BROUGHT_MAX);
    else if (!all_are_here(record, job_fd) && may_wait)
        status = bring_back(self, job_fd, record, error);
    else if (!all_are_here(record, job_fd)) {
        (void)note_use(self->storage, id, true);
        status = didi_fail(error, DIDI_CONFLICT, id,
                           "the files of job %s lie at S3 and are brought back now; try again "
                           "later",
                           id);
    }
    if (status == DIDI_OK)
        status = file_open_directory(job_fd, "artifacts", 0, ret_fd, error);
    file_close(job_fd);
    deposit_free(record);
    return status;
}

int scheduler_open_package(scheduler *self, const char *id, int *ret_fd, didi_error *error)
{
    return storage_open_package(self, id, false, ret_fd, error);
}

int scheduler_open_deposit(scheduler *self, const char *id, deposit **ret_deposit, int *ret_job_fd,
                           didi_error *error)
{
    deposit *record = NULL;
    int job_fd = -1;
    if (!id_is_valid(id))
        return store_job_unknown(id, error);
    int status = files_open_job(self, id, false, &job_fd, error);
    if (status == DIDI_OK)
        status = deposit_read(job_fd, &record, error);
    if (status == DIDI_OK && !record->complete)
        status = didi_fail(error, DIDI_NOT_FOUND, id, "job %s is not stored at S3", id);
    if (status == DIDI_OK) {
        *ret_deposit = record;
        *ret_job_fd = job_fd;
        return DIDI_OK;
    }
    deposit_free(record);
    file_close(job_fd);
    return status;
}

/* ---- in the background ---- */

/* Takes the next job whose files somebody waits for. */
static bool next_wanted(struct storage *own, char ret_id[ID_BYTES])
{
    bool found = false;
    pthread_mutex_lock(&own->lock);
    for (size_t i = 0; i < own->count && !found; i++) {
        found = own->list[i].wanted;
        if (found)
            memcpy(ret_id, own->list[i].id, ID_BYTES);
        own->list[i].wanted &= !found;
    }
    pthread_mutex_unlock(&own->lock);
    return found;
}

/* Takes a job out of the list whose files nobody used for long. */
static bool next_unused(struct storage *own, char ret_id[ID_BYTES])
{
    const int64_t before_ms = clock_monotonic_ms() - (int64_t)BROUGHT_SECONDS * 1000;
    bool found = false;
    pthread_mutex_lock(&own->lock);
    for (size_t i = 0; i < own->count && !found; i++) {
        found = own->list[i].used_ms < before_ms && !own->list[i].wanted;
        if (found) {
            memcpy(ret_id, own->list[i].id, ID_BYTES);
            own->list[i] = own->list[--own->count];
        }
    }
    pthread_mutex_unlock(&own->lock);
    return found;
}

static void bring_wanted(scheduler *self, const char *id)
{
    didi_error why = {0};
    int fd = -1;
    int status = storage_open_package(self, id, true, &fd, &why);
    file_close(fd);
    if (status != DIDI_OK)
        log_emit(LOG_LEVEL_WARNING, "artifacts cannot be brought back from S3", LOG_TEXT("job", id),
                 LOG_TEXT("subject", why.subject), LOG_TEXT("error", why.message));
}

static void trim_unused(scheduler *self, const char *id)
{
    int job_fd = -1;
    if (files_open_job(self, id, false, &job_fd, NULL) == DIDI_OK)
        storage_trim(self, id, job_fd);
    file_close(job_fd);
}

/* On a pool thread. */
static void background_work(void *context)
{
    scheduler *self = context;
    char id[ID_BYTES];
    while (!atomic_load(&self->stopping) && next_wanted(self->storage, id))
        bring_wanted(self, id);
    while (self->storage->idle && !atomic_load(&self->stopping) && next_unused(self->storage, id))
        trim_unused(self, id);
}

static void background_after(void *context)
{
    scheduler *self = context;
    self->storage->running = false;
    self->advance(self);
}

/* True when there may be something to do; files in use by anything that runs stay. */
static bool background_is_due(scheduler *self)
{
    struct storage *own = self->storage;
    const int64_t before_ms = clock_monotonic_ms() - (int64_t)BROUGHT_SECONDS * 1000;
    const bool idle = self->attempt_count == 0 && self->export_count == 0 && bakery_is_idle(self);
    bool due = false;
    own->idle = idle;
    pthread_mutex_lock(&own->lock);
    for (size_t i = 0; i < own->count; i++)
        due |= own->list[i].wanted || (idle && own->list[i].used_ms < before_ms);
    pthread_mutex_unlock(&own->lock);
    return due;
}

void storage_tick(scheduler *self)
{
    didi_error ignored = {0};
    if (self->storage->running || atomic_load(&self->stopping) || !background_is_due(self))
        return;
    self->storage->running =
        pool_task(self->pool, background_work, background_after, self, &ignored) == DIDI_OK;
}
