/* SPDX-License-Identifier: Apache-2.0 */
/* Manifests, and the few figures of them that are asked for often. */
#include "daemon/api/results.h"

#include "src/base/base.h"
#include "src/package/package.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { API_RESULTS_KEPT = 64 };

typedef struct result_row {
    char job_id[ID_BYTES];
    json_t *figures;
} result_row;

struct api_results {
    pthread_mutex_t lock;
    result_row rows[API_RESULTS_KEPT];
    size_t next;
};

api_results *api_results_create(void)
{
    api_results *self = memory_zeroed(1, sizeof *self);
    if (self != NULL)
        pthread_mutex_init(&self->lock, NULL);
    return self;
}

void api_results_free(api_results *self)
{
    if (self == NULL)
        return;
    for (size_t i = 0; i < API_RESULTS_KEPT; i++)
        json_decref(self->rows[i].figures);
    pthread_mutex_destroy(&self->lock);
    free(self);
}

int api_manifest_read(scheduler *jobs, const char *job_id, json_t **ret_manifest, didi_error *error)
{
    int fd;
    int status = scheduler_open_files(jobs, job_id, "artifacts", &fd, error);
    if (status != DIDI_OK)
        return status;
    status = manifest_file_read(fd, ret_manifest, error);
    close(fd);
    return status;
}

static json_t *results_figures(const json_t *manifest)
{
    json_t *figures = json_object();
    json_t *error = json_object();
    const json_t *from = json_object_get(manifest, "error");
    json_object_set(error, "relative", json_object_get(from, "relative"));
    json_object_set(error, "per_task", json_object_get(from, "per_task"));
    json_object_set(figures, "budget", json_object_get(manifest, "budget"));
    json_object_set_new(figures, "error", error);
    if (json_object_get(manifest, "extends") != NULL)
        json_object_set(figures, "extends", json_object_get(manifest, "extends"));
    return figures;
}

/* Each caller gets a copy: reference counts are not for several threads. */
static json_t *results_find(api_results *self, const char *job_id)
{
    json_t *found = NULL;
    pthread_mutex_lock(&self->lock);
    for (size_t i = 0; i < API_RESULTS_KEPT && found == NULL; i++)
        if (strcmp(self->rows[i].job_id, job_id) == 0)
            found = json_deep_copy(self->rows[i].figures);
    pthread_mutex_unlock(&self->lock);
    return found;
}

json_t *api_results_get(api_results *self, scheduler *jobs, const char *job_id)
{
    json_t *manifest;
    json_t *figures = results_find(self, job_id);
    if (figures != NULL || strlen(job_id) != ID_CHARACTERS ||
        api_manifest_read(jobs, job_id, &manifest, NULL) != DIDI_OK)
        return figures;
    figures = results_figures(manifest);
    json_t *kept = json_deep_copy(figures);
    json_decref(manifest);
    pthread_mutex_lock(&self->lock);
    result_row *row = &self->rows[self->next];
    self->next = (self->next + 1) % API_RESULTS_KEPT;
    json_decref(row->figures);
    row->figures = kept;
    memcpy(row->job_id, job_id, ID_BYTES);
    pthread_mutex_unlock(&self->lock);
    return figures;
}
