/* SPDX-License-Identifier: Apache-2.0 */
/* A selection for each list, behind one lock. */
#include "src/methods/ranking.h"

#include "src/base/base.h"

#include <assert.h>
#include <stdlib.h>

uint64_t ranking_elements(const work *of)
{
    uint64_t numbers = 0;
    for (size_t i = 0; i < of->layer_count; i++)
        numbers = memory_add(numbers, of->layers[i]->elements);
    return numbers;
}

int ranking_open(ranking *self, size_t lists, uint64_t numbers, didi_error *error)
{
    int status = DIDI_OK;
    *self = (ranking){.lists = lists,
                      .numbers = numbers,
                      .of = memory_zeroed(lists, sizeof(selection)),
                      .opened = pthread_mutex_init(&self->lock, NULL) == 0};
    if (self->of == NULL || !self->opened)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "thresholds of %zu lists", lists);
    for (size_t i = 0; i < lists && status == DIDI_OK; i++)
        status = selection_create(&self->of[i], 0, false, error);
    return status;
}

void ranking_close(ranking *self)
{
    for (size_t i = 0; self->of != NULL && i < self->lists; i++)
        selection_clear(&self->of[i]);
    free(self->of);
    if (self->opened)
        (void)pthread_mutex_destroy(&self->lock);
    *self = (ranking){0};
}

void ranking_ask(ranking *self, size_t list, uint64_t rank, bool magnitudes)
{
    assert(list < self->lists);
    selection *of = &self->of[list];
    uint64_t last = self->numbers > 0 ? self->numbers - 1 : 0;
    *of = (selection){.rank = smaller(rank, last), .bins = of->bins, .magnitudes = magnitudes};
}

int ranking_tables(const ranking *self, uint64_t **ret_tables, didi_error *error)
{
    uint64_t *tables = memory_zeroed(self->lists * SELECTION_BINS, sizeof *tables);
    if (tables == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "counts of %zu lists", self->lists);
    *ret_tables = tables;
    return DIDI_OK;
}

uint64_t ranking_memory(size_t lists)
{
    return memory_multiply(lists, 2 * SELECTION_BINS * sizeof(uint64_t));
}

void ranking_count(const ranking *self, size_t list, const float *values, size_t count,
                   uint64_t *tables)
{
    selection_count(&self->of[list], values, count, tables + list * SELECTION_BINS);
}

void ranking_add(ranking *self, uint64_t numbers, const uint64_t *tables)
{
    (void)pthread_mutex_lock(&self->lock);
    for (size_t i = 0; i < self->lists; i++)
        selection_add(&self->of[i], tables + i * SELECTION_BINS);
    self->seen += numbers;
    (void)pthread_mutex_unlock(&self->lock);
}

void ranking_end_pass(ranking *self)
{
    for (size_t i = 0; i < self->lists && self->numbers > 0; i++) {
        selection_add_zeros(&self->of[i], self->numbers - self->seen);
        selection_end_pass(&self->of[i]);
    }
    self->seen = 0;
}

float ranking_value(const ranking *self, size_t list)
{
    return self->numbers > 0 ? selection_value(&self->of[list]) : 0;
}
