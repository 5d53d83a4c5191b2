/* SPDX-License-Identifier: Apache-2.0 */
/* model.safetensors.index.json: which shard holds which tensor. */
#include "src/files/checkpoint_index.h"

#include "src/base/base.h"
#include "src/files/checkpoint.h"

#include <assert.h>
#include <limits.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct index_entry {
    const char *tensor;
    const char *file;
} index_entry;

struct checkpoint_index {
    json_scan *scan;      /* owns the strings */
    index_entry *entries; /* by tensor name */
    size_t count, capacity;
    const char **files;
    size_t file_count;
};

static int compare_entries(const void *a, const void *b)
{
    return strcmp(((const index_entry *)a)->tensor, ((const index_entry *)b)->tensor);
}

static int compare_strings(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int fail_memory(didi_error *error, const char *subject)
{
    return didi_fail(error, DIDI_NO_MEMORY, subject, "no memory for the index");
}

/* A shard must be a plain file of the model's directory, not a path out of it nor a hidden file. */
static bool is_shard_name(const char *name, size_t bytes)
{
    return bytes > 0 && bytes <= NAME_MAX && name[0] != '.' && strpbrk(name, "/\\") == NULL &&
           !text_has_control(name, bytes);
}

static int parse_entry(checkpoint_index *index, const char *subject, didi_error *error)
{
    if (index->count == SAFETENSORS_TENSORS_MAX)
        return didi_fail(error, DIDI_FORMAT, subject, "weight_map lists more than %d tensors",
                         (int)SAFETENSORS_TENSORS_MAX);
    index_entry *entries =
        memory_grown(index->entries, index->count, &index->capacity, sizeof(*entries));
    if (entries == NULL)
        return fail_memory(error, subject);
    index->entries = entries;
    index_entry *entry = &entries[index->count];
    size_t bytes = 0;
    int status = json_scan_key(index->scan, &entry->tensor, NULL, error);
    if (status != DIDI_OK)
        return status;
    status = json_scan_string(index->scan, &entry->file, &bytes, error);
    if (status == DIDI_OK && !is_shard_name(entry->file, bytes))
        status =
            didi_fail(error, DIDI_FORMAT, subject,
                      "'%.256s' is not the name of a file in the model's directory", entry->file);
    if (status != DIDI_OK) {
        didi_error_blame(error, subject, entry->tensor);
        return status;
    }
    index->count++;
    return DIDI_OK;
}

static int parse_weight_map(checkpoint_index *index, const char *subject, didi_error *error)
{
    int status = json_scan_open(index->scan, '{', error);
    while (json_scan_each(index->scan, '}', &status, error))
        status = parse_entry(index, subject, error);
    return status;
}

static int parse_text(checkpoint_index *index, const char *subject, didi_error *error)
{
    bool has_map = false;
    int status = json_scan_open(index->scan, '{', error);
    while (json_scan_each(index->scan, '}', &status, error)) {
        const char *key = NULL;
        status = json_scan_key(index->scan, &key, NULL, error);
        if (status != DIDI_OK)
            break;
        bool is_map = strcmp(key, "weight_map") == 0;
        if (is_map && has_map)
            return didi_fail(error, DIDI_FORMAT, subject, "duplicate weight_map");
        has_map = has_map || is_map;
        status =
            is_map ? parse_weight_map(index, subject, error) : json_scan_skip(index->scan, error);
    }
    if (status == DIDI_OK)
        status = json_scan_end(index->scan, error);
    if (status == DIDI_OK && index->count == 0)
        return didi_fail(error, DIDI_FORMAT, subject,
                         has_map ? "weight_map is empty" : "weight_map is missing");
    return status;
}

static int sort_tensors(checkpoint_index *index, const char *subject, didi_error *error)
{
    qsort(index->entries, index->count, sizeof(*index->entries), compare_entries);
    for (size_t i = 1; i < index->count; i++) {
        if (compare_entries(&index->entries[i - 1], &index->entries[i]) != 0)
            continue;
        int status = didi_fail(error, DIDI_FORMAT, subject, "weight_map lists the tensor twice");
        didi_error_blame(error, subject, index->entries[i].tensor);
        return status;
    }
    return DIDI_OK;
}

static int collect_files(checkpoint_index *index, const char *subject, didi_error *error)
{
    index->files = memory_zeroed(index->count, sizeof(*index->files));
    if (index->files == NULL)
        return fail_memory(error, subject);
    for (size_t i = 0; i < index->count; i++)
        index->files[i] = index->entries[i].file;
    qsort(index->files, index->count, sizeof(*index->files), compare_strings);
    size_t distinct = 1;
    for (size_t i = 1; i < index->count; i++)
        if (strcmp(index->files[i], index->files[distinct - 1]) != 0)
            index->files[distinct++] = index->files[i];
    index->file_count = distinct;
    if (distinct > CHECKPOINT_SHARDS_MAX)
        return didi_fail(error, DIDI_FORMAT, subject, "%zu shards, over the limit of %d", distinct,
                         (int)CHECKPOINT_SHARDS_MAX);
    return DIDI_OK;
}

int checkpoint_index_parse(const char *json, size_t bytes, const char *subject,
                           checkpoint_index **ret_index, didi_error *error)
{
    assert(json != NULL && subject != NULL);
    checkpoint_index *index = memory_zeroed(1, sizeof(*index));
    if (index == NULL)
        return fail_memory(error, subject);
    int status = json_scan_new(json, bytes, subject, "index", &index->scan, error);
    if (status == DIDI_OK)
        status = parse_text(index, subject, error);
    if (status == DIDI_OK)
        status = sort_tensors(index, subject, error);
    if (status == DIDI_OK)
        status = collect_files(index, subject, error);
    if (status != DIDI_OK) {
        checkpoint_index_free(index);
        return status;
    }
    json_scan_detach(index->scan);
    *ret_index = index;
    return DIDI_OK;
}

void checkpoint_index_free(checkpoint_index *index)
{
    if (index == NULL)
        return;
    json_scan_free(index->scan);
    free(index->entries);
    free(index->files);
    free(index);
}

size_t checkpoint_index_file_count(const checkpoint_index *index)
{
    assert(index->file_count > 0);
    return index->file_count;
}

const char *checkpoint_index_file(const checkpoint_index *index, size_t file)
{
    assert(file < index->file_count);
    return index->files[file];
}

size_t checkpoint_index_tensor_count(const checkpoint_index *index)
{
    return index->count;
}

const char *checkpoint_index_tensor(const checkpoint_index *index, size_t tensor)
{
    assert(tensor < index->count);
    return index->entries[tensor].tensor;
}

size_t checkpoint_index_find(const checkpoint_index *index, const char *name)
{
    index_entry key = {.tensor = name};
    const index_entry *entry =
        bsearch(&key, index->entries, index->count, sizeof(key), compare_entries);
    if (entry == NULL)
        return SIZE_MAX;
    const char *const *file = bsearch(&entry->file, index->files, index->file_count,
                                      sizeof(*index->files), compare_strings);
    return (size_t)(file - index->files);
}
