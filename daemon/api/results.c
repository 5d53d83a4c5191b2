/* SPDX-License-Identifier: Apache-2.0 */
/* Manifests, and the few figures of them that are asked for often. */
#include "daemon/api/results.h"

#include "src/base/base.h"
#include "src/package/package.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { API_FIGURES_KEPT = 64 };

typedef struct figures_row {
    char job_id[ID_BYTES];
    json_t *figures;
} figures_row;

struct api_figures {
    pthread_mutex_t lock;
    figures_row rows[API_FIGURES_KEPT];
    size_t next;
};

api_figures *api_figures_create(void)
{
    api_figures *self = memory_zeroed(1, sizeof *self);
    if (self != NULL)
        pthread_mutex_init(&self->lock, NULL);
    return self;
}

void api_figures_free(api_figures *self)
{
    if (self == NULL)
        return;
    for (size_t i = 0; i < API_FIGURES_KEPT; i++)
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

/* Names of what the job has under its own address, for clients to ask for no others. */
static json_t *names_of_figures(const json_t *manifest)
{
    static const char *const names[] = {"frontier", "similarity", "ranks"};
    json_t *found = json_array();
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const json_t *value = json_object_get(manifest, names[i]);
        if (value != NULL && !json_is_null(value))
            json_array_append_new(found, json_string(names[i]));
    }
    return found;
}

static json_t *figures_of(const json_t *manifest)
{
    const json_t *error = json_object_get(manifest, "error");
    return json_pack("{s:O*, s:{s:O*, s:O*}, s:O*, s:o}", "budget",
                     json_object_get(manifest, "budget"), "error", "relative",
                     json_object_get(error, "relative"), "per_task",
                     json_object_get(error, "per_task"), "extends",
                     json_object_get(manifest, "extends"), "figures", names_of_figures(manifest));
}

/* Each caller gets a copy: reference counts are not for several threads. */
static json_t *figures_find(api_figures *self, const char *job_id)
{
    json_t *found = NULL;
    pthread_mutex_lock(&self->lock);
    for (size_t i = 0; i < API_FIGURES_KEPT && found == NULL; i++)
        if (strcmp(self->rows[i].job_id, job_id) == 0)
            found = json_deep_copy(self->rows[i].figures);
    pthread_mutex_unlock(&self->lock);
    return found;
}

json_t *api_figures_get(api_figures *self, scheduler *jobs, const char *job_id)
{
    json_t *manifest;
    json_t *figures = figures_find(self, job_id);
    if (figures != NULL || strlen(job_id) != ID_CHARACTERS ||
        api_manifest_read(jobs, job_id, &manifest, NULL) != DIDI_OK)
        return figures;
    figures = figures_of(manifest);
    json_t *kept = json_deep_copy(figures);
    json_decref(manifest);
    pthread_mutex_lock(&self->lock);
    figures_row *row = &self->rows[self->next];
    self->next = (self->next + 1) % API_FIGURES_KEPT;
    json_decref(row->figures);
    row->figures = kept;
    memcpy(row->job_id, job_id, ID_BYTES);
    pthread_mutex_unlock(&self->lock);
    return figures;
}
