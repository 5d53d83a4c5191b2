/* SPDX-License-Identifier: Apache-2.0 */
/* A table of answers by names and revisions: emptied when it is full. */
#include "daemon/models/fits.h"

#include "src/base/base.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum {
    FITS_PLACES = 16384,
    FITS_MOST = 12288, /* answers kept */
};

typedef struct fits_row {
    char *key; /* NULL: free */
    model_fit fit;
} fits_row;

struct model_fits {
    const model_roots *roots;
    pthread_mutex_t lock;
    fits_row *rows;
    size_t count;
};

int model_fits_create(const model_roots *roots, model_fits **ret_fits, didi_error *error)
{
    model_fits *self = memory_zeroed(1, sizeof *self);
    fits_row *rows = memory_zeroed(FITS_PLACES, sizeof *rows);
    if (self == NULL || rows == NULL) {
        free(self);
        free(rows);
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "no memory for what fits");
    }
    self->roots = roots;
    self->rows = rows;
    pthread_mutex_init(&self->lock, NULL);
    *ret_fits = self;
    return DIDI_OK;
}

static void rows_empty(model_fits *self)
{
    for (size_t i = 0; i < FITS_PLACES; i++) {
        free(self->rows[i].key);
        model_fit_clear(&self->rows[i].fit);
        self->rows[i].key = NULL;
    }
    self->count = 0;
}

void model_fits_free(model_fits *self)
{
    if (self == NULL)
        return;
    rows_empty(self);
    pthread_mutex_destroy(&self->lock);
    free(self->rows);
    free(self);
}

void model_fit_clear(model_fit *fit)
{
    free(fit->reason);
    *fit = (model_fit){0};
}

static int fit_copy(const model_fit *from, model_fit *ret_fit, didi_error *error)
{
    char *reason = from->reason != NULL ? memory_string(from->reason) : NULL;
    if (from->reason != NULL && reason == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "no memory for what fits");
    *ret_fit = *from;
    ret_fit->reason = reason;
    return DIDI_OK;
}

/* FNV-1a; the row of the key, or the free one where it belongs. There is always a free one. */
static fits_row *row_of(model_fits *self, const char *key)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (const char *at = key; *at != '\0'; at++)
        hash = (hash ^ (unsigned char)*at) * UINT64_C(0x100000001b3);
    size_t place = (size_t)(hash % FITS_PLACES);
    while (self->rows[place].key != NULL && strcmp(self->rows[place].key, key) != 0)
        place = (place + 1) % FITS_PLACES;
    return &self->rows[place];
}

/* What finds no memory is not remembered. */
static void remember(model_fits *self, const char *key, const model_fit *fit)
{
    pthread_mutex_lock(&self->lock);
    if (self->count >= FITS_MOST)
        rows_empty(self);
    fits_row *row = row_of(self, key);
    char *copy = row->key == NULL ? memory_string(key) : NULL;
    if (copy != NULL && fit_copy(fit, &row->fit, NULL) == DIDI_OK) {
        row->key = copy;
        self->count++;
        copy = NULL;
    }
    pthread_mutex_unlock(&self->lock);
    free(copy);
}

static int compare_headers(const model_fits *self, const char *base, const char *model,
                           didi_fit *ret_figures, didi_error *error)
{
    didi_merge_options options;
    didi_task_input task = {.name = "task", .label = model, .directory_fd = -1, .weight = 1};
    didi_merge_options_default(&options);
    options.base_fd = -1;
    options.base_label = base;
    options.links = model_roots_bounds(self->roots);
    options.tasks = &task;
    options.task_count = 1;
    int status = model_roots_open_model(self->roots, base, &options.base_fd, error);
    if (status == DIDI_OK)
        status = model_roots_open_model(self->roots, model, &task.directory_fd, error);
    if (status == DIDI_OK)
        status = didi_fit_check(&options, ret_figures, error);
    file_close(options.base_fd);
    file_close(task.directory_fd);
    return status;
}

/* Answers that hold for as long as both revisions do. */
static bool is_lasting(int status)
{
    return status == DIDI_OK || status == DIDI_MISMATCH || status == DIDI_INVALID ||
           status == DIDI_FORMAT;
}

static int look(model_fits *self, const char *key, const char *base, const char *model,
                model_fit *ret_fit, didi_error *error)
{
    didi_error why = {0};
    model_fit found = {0};
    int status = compare_headers(self, base, model, &found.figures, &why);
    if (status == DIDI_NO_MEMORY)
        return didi_fail(error, status, why.subject, "%s", why.message);
    found.fits = status == DIDI_OK;
    if (!found.fits && (found.reason = memory_string(why.message)) == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "no memory for what fits");
    if (is_lasting(status))
        remember(self, key, &found);
    *ret_fit = found;
    return DIDI_OK;
}

int model_fits_find(model_fits *self, const store_model *base, const store_model *model,
                    model_fit *ret_fit, bool *ret_read, didi_error *error)
{
    assert(base->state == MODEL_READY && model->state == MODEL_READY && base->is_adapter == 0);
    int status = DIDI_OK;
    /* No name and no revision holds a line's end. */
    char *key =
        memory_format("%s\n%s\n%s\n%s", base->name, base->revision, model->name, model->revision);
    if (key == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "no memory for what fits");
    pthread_mutex_lock(&self->lock);
    const fits_row *row = row_of(self, key);
    bool known = row->key != NULL;
    if (known)
        status = fit_copy(&row->fit, ret_fit, error);
    pthread_mutex_unlock(&self->lock);
    if (!known)
        status = look(self, key, base->name, model->name, ret_fit, error);
    if (status == DIDI_OK)
        *ret_read = !known;
    free(key);
    return status;
}
