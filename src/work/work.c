/* SPDX-License-Identifier: Apache-2.0 */
/* Telemetry of a method, its layers opened the way the memory limit allows (loaded, or read panel
 * by panel), and what the files of a package hold at the ranks and widths in force. */
#include "src/work/work.h"

#include "src/base/base.h"
#include "src/math/math.h"

#include <assert.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* ---- telemetry ---- */

void work_point(work *self, didi_stage stage, uint64_t step, double loss, double relative_error,
                double ratio)
{
    self->emit(self->engine, &(didi_event){.kind = DIDI_EVENT_POINT,
                                           .stage = stage,
                                           .step = step,
                                           .loss = loss,
                                           .relative_error = relative_error,
                                           .ratio = ratio});
}

void work_note(work *self, didi_stage stage, const char *format, ...)
{
    char text[256];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    self->emit(self->engine, &(didi_event){.kind = DIDI_EVENT_NOTE,
                                           .stage = stage,
                                           .loss = NAN,
                                           .relative_error = NAN,
                                           .ratio = NAN,
                                           .text = text});
}

static void raise_peak(atomic_ullong *peak, unsigned long long now)
{
    unsigned long long known = atomic_load(peak);
    while (now > known && !atomic_compare_exchange_weak(peak, &known, now))
        continue;
}

void work_sample_memory(work *self)
{
    unsigned long long kilobytes = 0;
    char line[128];
    FILE *file = fopen("/proc/self/status", "re");
    if (file == NULL)
        return;
    while (fgets(line, sizeof line, file) != NULL)
        if (sscanf(line, "RssAnon: %llu", &kilobytes) == 1)
            break;
    (void)fclose(file);
    raise_peak(&self->peak_memory, kilobytes * 1024);
    raise_peak(&self->usage[self->stage].peak_memory, kilobytes * 1024);
}

/* ---- tensors ---- */

void work_snapshot_name(const char *prefix, size_t index, char name[64])
{
    (void)snprintf(name, 64, "%s-%05zu.state", prefix, index);
}

int work_save_table(const work *self, const char *file, const char *name, size_t rows,
                    size_t columns, const double *table, didi_error *error)
{
    snapshot_entry entry = {name, DIDI_DTYPE_F64, rows, columns, table};
    return snapshot_save(self->options.work_fd, file, &entry, 1, !self->options.volatile_work,
                         error);
}

int work_read_table(const work *self, const char *file, const char *name, size_t rows,
                    size_t columns, double *ret_table, didi_error *error)
{
    snapshot *from = NULL;
    const void *data = NULL;
    uint64_t found = 0;
    int status = snapshot_open(self->options.work_fd, file, &from, error);
    if (status == DIDI_OK)
        status = snapshot_find(from, name, DIDI_DTYPE_F64, columns, &found, &data, error);
    if (status == DIDI_OK && found != rows)
        status = didi_fail(error, DIDI_FORMAT, file, "%llu rows of %zu", (unsigned long long)found,
                           rows);
    if (status == DIDI_OK)
        memcpy(ret_table, data, rows * columns * sizeof *ret_table);
    snapshot_close(from);
    return status;
}

static int create_layer(work *self, size_t index, const work_mode *how, layer **ret_layer,
                        didi_error *error)
{
    const family_tensor *tensor = self->layers[index];
    bool factored = !how->whole && family_sum_ranks(self->family, tensor).tasks > 0;
    int status = factored        ? family_create_factored(self->family, tensor, how->streamed,
                                                          &self->bytes_read, ret_layer, error)
                 : how->streamed ? family_stream_layer(self->family, tensor, &self->bytes_read,
                                                       ret_layer, error)
                                 : layer_create(tensor->rows, tensor->columns,
                                                self->options.task_count, ret_layer, error);
    if (status != DIDI_OK)
        return status;
    (*ret_layer)->parallel = self->parallel;
    (*ret_layer)->cancelled = &self->cancelled;
    (*ret_layer)->flops = &self->usage[self->stage].flops;
    (*ret_layer)->seed = random_mix(self->options.seed, index);
    (*ret_layer)->lanes = how->lanes;
    (*ret_layer)->spilled = how->spilled;
    (*ret_layer)->scratch_fd = self->options.work_fd;
    return DIDI_OK;
}

/* The energies of a streamed layer take a pass over its files, so later openings remember them. */
static int measure_streamed(const layer_summary *summary, bool first, layer *target,
                            didi_error *error)
{
    if (first)
        return layer_measure(target, error);
    memcpy(target->energy, summary->energy, summary->tasks * sizeof(double));
    return DIDI_OK;
}

size_t work_layer_ahead(const work *self, size_t index)
{
    size_t at = 0;
    while (at < self->layer_count && self->layer_order[at] != index)
        at++;
    size_t ahead = self->options.workers > 0 ? self->options.workers : 1;
    return at + ahead < self->layer_count ? self->layer_order[at + ahead] : SIZE_MAX;
}

/* Energies and weights are of the whole task vector, what is left of it is worked on. */
static int load_layer(work *self, size_t index, bool first, layer *target, didi_error *error)
{
    layer_summary *summary = &self->summaries[index];
    int status = layer_is_streamed(target) ? measure_streamed(summary, first, target, error)
                                           : family_load_layer(self->family, self->layers[index],
                                                               target, &self->bytes_read, error);
    if (status == DIDI_OK)
        status = family_verify_unchanged(self->family, error);
    if (status == DIDI_OK)
        memcpy(summary->energy, target->energy, summary->tasks * sizeof(double));
    return status == DIDI_OK && first ? work_save_gram(self, index, target, error) : status;
}

int work_open_layer(work *self, size_t index, const work_mode *how, bool first, layer **ret_layer,
                    didi_error *error)
{
    assert(index < self->layer_count && self->summaries != NULL);
    addition shared = {0};
    work_mode mode = *how;
    layer *fresh = NULL;
    int status = family_verify_unchanged(self->family, error);
    if (status == DIDI_OK)
        status = extension_shared(self->extension, self->layers[index], &shared, error);
    mode.whole = mode.whole || shared.delta != NULL || shared.delta_bytes != NULL;
    if (status == DIDI_OK)
        status = create_layer(self, index, &mode, &fresh, error);
    if (status == DIDI_OK)
        status = load_layer(self, index, first, fresh, error);
    if (status == DIDI_OK && !addition_is_empty(&shared)) {
        status = layer_take_away(fresh, &shared, error);
        shared = (addition){0};
    }
    addition_clear(&shared);
    if (status != DIDI_OK)
        layer_free(fresh);
    else
        *ret_layer = fresh;
    return status;
}

int work_verify_streamed(const work *self, const layer *target, didi_error *error)
{
    return layer_is_streamed(target) ? family_verify_unchanged(self->family, error) : DIDI_OK;
}

/* ---- files ---- */

stored_tensor stored_tensor_of(const family_tensor *tensor)
{
    return (stored_tensor){tensor->base->tensor, tensor->rows, tensor->columns};
}

stored_part stored_part_of(const layer_summary *summary, size_t file)
{
    stored_form form = summary->dense[file] ? STORED_DELTA : summary->form[file];
    return (stored_part){.form = form,
                         .rank = summary->rank[file],
                         .components = summary->components[file],
                         .bits = summary->dense_bits[file],
                         .entries = summary->entries[file]};
}

int work_file_layout(const work *self, size_t file, package_layout *ret_layout, didi_error *error)
{
    assert(file <= self->options.task_count);
    didi_precision precision = self->options.precision;
    size_t own = file > 0 ? self->family->tasks[file - 1].own_count : 0;
    int status =
        package_layout_create(self->layer_count + self->dense_count + own, ret_layout, error);
    for (size_t l = 0; l < self->layer_count && status == DIDI_OK; l++) {
        stored_tensor tensor = stored_tensor_of(self->layers[l]);
        stored_part part = stored_part_of(&self->summaries[l], file);
        status = package_layout_add(ret_layout, &tensor, &part, file, precision, error);
    }
    for (size_t i = 0; i < self->dense_count && status == DIDI_OK; i++) {
        stored_tensor tensor = stored_tensor_of(self->dense[i]);
        bool whole = work_holds_delta(self, i, file);
        stored_part part = {.form = whole ? STORED_DELTA : STORED_FACTORS,
                            .bits = self->dense_summaries[i].bits[file]};
        status = package_layout_add(ret_layout, &tensor, &part, file, precision, error);
    }
    if (status == DIDI_OK && file > 0)
        status = work_own_layout(self, file - 1, ret_layout, error);
    if (status != DIDI_OK)
        package_layout_clear(ret_layout);
    return status;
}

int work_package_bytes(const work *self, uint64_t *ret_bytes, didi_error *error)
{
    *ret_bytes = 0;
    for (size_t file = extension_first_file(self->extension); file <= self->options.task_count;
         file++) {
        package_layout found;
        uint64_t bytes = 0;
        int status = work_file_layout(self, file, &found, error);
        safetensors_contents contents = package_layout_contents(&found, self->options.precision);
        if (status == DIDI_OK)
            status = safetensors_layout_bytes(&contents, &bytes, error);
        package_layout_clear(&found);
        if (status != DIDI_OK)
            return status;
        *ret_bytes = memory_add(*ret_bytes, bytes);
    }
    return DIDI_OK;
}
