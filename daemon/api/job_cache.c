/* SPDX-License-Identifier: Apache-2.0 */
/* A table of rendered jobs with one place an id: a job drives out another of the same place. */
#include "daemon/api/job_cache.h"

#include "daemon/base/base.h"
#include "src/base/base.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum {
    JOB_CACHE_SLOTS = 1024,
    JOB_CACHE_TEXT_BYTES = 32768, /* longer documents are not kept: 32 MiB at most */
};

typedef struct job_slot {
    char id[ID_BYTES];
    char *text;
    size_t bytes;
    uint64_t moment; /* counts changes of jobs of this place */
} job_slot;

struct api_job_cache {
    pthread_mutex_t lock;
    job_slot slots[JOB_CACHE_SLOTS];
};

api_job_cache *api_job_cache_create(void)
{
    api_job_cache *self = memory_zeroed(1, sizeof *self);
    if (self != NULL)
        pthread_mutex_init(&self->lock, NULL);
    return self;
}

void api_job_cache_free(api_job_cache *self)
{
    if (self == NULL)
        return;
    for (size_t i = 0; i < JOB_CACHE_SLOTS; i++)
        free(self->slots[i].text);
    pthread_mutex_destroy(&self->lock);
    free(self);
}

/* FNV-1a. */
static job_slot *slot_of(api_job_cache *self, const char *id)
{
    uint32_t hash = 2166136261U;
    for (; *id != '\0'; id++)
        hash = (hash ^ (unsigned char)*id) * 16777619U;
    return &self->slots[hash % JOB_CACHE_SLOTS];
}

bool api_job_cache_reply(api_job_cache *self, const char *id, http_request *request,
                         uint64_t *ret_moment)
{
    pthread_mutex_lock(&self->lock);
    const job_slot *slot = slot_of(self, id);
    const bool found = slot->text != NULL && strcmp(slot->id, id) == 0;
    if (found)
        http_reply_text(request, 200, "application/json", memory_string(slot->text));
    *ret_moment = slot->moment;
    pthread_mutex_unlock(&self->lock);
    return found;
}

static void slot_empty(job_slot *slot)
{
    free(slot->text);
    slot->text = NULL;
    slot->id[0] = '\0';
}

void api_job_cache_put(api_job_cache *self, const char *id, uint64_t moment, const char *text)
{
    const size_t bytes = strlen(text);
    if (bytes > JOB_CACHE_TEXT_BYTES || strlen(id) != ID_CHARACTERS)
        return;
    char *copy = memory_string(text);
    if (copy == NULL)
        return;
    pthread_mutex_lock(&self->lock);
    job_slot *slot = slot_of(self, id);
    if (slot->moment == moment) {
        slot_empty(slot);
        memcpy(slot->id, id, ID_BYTES);
        slot->text = copy;
        slot->bytes = bytes;
        copy = NULL;
    }
    pthread_mutex_unlock(&self->lock);
    free(copy);
}

void api_job_cache_drop(api_job_cache *self, const char *id)
{
    pthread_mutex_lock(&self->lock);
    job_slot *first = id != NULL ? slot_of(self, id) : self->slots;
    const size_t count = id != NULL ? 1 : JOB_CACHE_SLOTS;
    for (size_t i = 0; i < count; i++) {
        slot_empty(&first[i]);
        first[i].moment++;
    }
    pthread_mutex_unlock(&self->lock);
}
