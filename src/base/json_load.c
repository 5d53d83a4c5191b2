/* SPDX-License-Identifier: Apache-2.0 */
/* A parse that a refused allocation leaves by longjmp. What it allocated is listed, so that all of
 * it can be freed then; what it frees stays until it ends, so that the list holds nothing twice.
 * Outside a parse jansson's allocator is malloc as ever. */
#include "src/base/json_load.h"

#include "src/base/memory.h"

#include <assert.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

typedef struct pointers {
    void **items;
    size_t count, room;
} pointers;

typedef struct parse {
    jmp_buf refused;
    pointers taken, given_back;
} parse;

static _Thread_local parse *current;

static bool pointers_add(pointers *self, void *item)
{
    void **grown = memory_grown(self->items, self->count, &self->room, sizeof *grown);
    if (grown == NULL)
        return false;
    self->items = grown;
    self->items[self->count++] = item;
    return true;
}

static void pointers_free(pointers *self, bool items_too)
{
    for (size_t i = 0; i < self->count && items_too; i++)
        free(self->items[i]);
    free(self->items);
}

static void *allocate(size_t bytes)
{
    void *block = malloc(bytes);
    if (current == NULL)
        return block;
    if (block == NULL || !pointers_add(&current->taken, block)) {
        free(block);
        longjmp(current->refused, 1);
    }
    return block;
}

static void release(void *block)
{
    if (current == NULL)
        free(block);
    else if (block != NULL && !pointers_add(&current->given_back, block))
        longjmp(current->refused, 1);
}

__attribute__((constructor)) static void set_allocator(void)
{
    json_set_alloc_funcs(allocate, release);
}

json_t *json_load(const char *text, size_t bytes, size_t flags, json_error_t *ret_reason,
                  bool *ret_no_memory)
{
    parse self = {.taken = {NULL, 0, 0}};
    json_t *volatile value = NULL;
    volatile bool refused = true;
    assert(current == NULL);
    if (ret_reason != NULL)
        memset(ret_reason, 0, sizeof *ret_reason);
    current = &self;
    if (setjmp(self.refused) == 0) {
        value = json_loadb(text, bytes, flags, ret_reason);
        refused = false;
    }
    current = NULL;
    pointers_free(&self.given_back, !refused);
    pointers_free(&self.taken, refused);
    if (ret_no_memory != NULL)
        *ret_no_memory = refused;
    return value;
}

json_t *json_load_own(const char *text)
{
    return text != NULL ? json_load(text, strlen(text), 0, NULL, NULL) : NULL;
}
