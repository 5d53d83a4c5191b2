/* SPDX-License-Identifier: Apache-2.0 */
/* Files beside the weights, by kind: those of one kind belong together and come from one model. */
#include "src/package/side_files.h"

#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

enum { KINDS = 3, PATTERNS_MAX = 16 };

static const char *const patterns[KINDS][PATTERNS_MAX] = {
    {"config.json", "generation_config.json"},
    {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
     "vocab.txt", "vocab.json", "merges.txt", "*.model", "*.spm", "*.tiktoken", "normalizer.json",
     "chat_template.jinja", "chat_template.json"},
    {"*preprocessor_config.json", "processor_config.json", "image_processor*.json"},
};

typedef struct search {
    size_t kind;
    bool of_task;
    side_files *found;
} search;

/* Names that can stand in a path of the HTTP interface. */
static bool is_plain(const char *name)
{
    size_t bytes =
        strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-");
    return name[bytes] == '\0' && bytes <= SIDE_FILE_NAME_BYTES_MAX;
}

static bool is_of_kind(size_t kind, const char *name)
{
    for (size_t i = 0; i < PATTERNS_MAX && patterns[kind][i] != NULL; i++)
        if (fnmatch(patterns[kind][i], name, FNM_PERIOD) == 0)
            return true;
    return false;
}

static int note_entry(void *context, const char *name, didi_error *error)
{
    const search *self = context;
    side_files *found = self->found;
    if (!is_plain(name) || !is_of_kind(self->kind, name))
        return DIDI_OK;
    if (found->count == SIDE_FILES_MAX)
        return didi_fail(error, DIDI_INVALID, name, "more than %d files beside the weights",
                         (int)SIDE_FILES_MAX);
    char *copy = memory_string(name);
    if (copy == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, name, "name of a file");
    found->files[found->count++] = (side_file){.name = copy, .of_task = self->of_task};
    return DIDI_OK;
}

static int compare_files(const void *a, const void *b)
{
    return strcmp(((const side_file *)a)->name, ((const side_file *)b)->name);
}

static int copy_file(int from_fd, const file_bounds *links, int to_fd, const char *name,
                     didi_error *error)
{
    int fd = -1;
    char *text = NULL;
    size_t bytes = 0;
    int status = file_open_within(from_fd, name, links, name, &fd, error);
    if (status == DIDI_OK)
        status = file_read_text_fd(fd, name, SIDE_FILE_BYTES_MAX, &text, &bytes, error);
    if (status == DIDI_OK)
        status = file_write_durable(to_fd, name, text, bytes, error);
    free(text);
    file_close(fd);
    return status;
}

int side_files_copy(int task_fd, int base_fd, const file_bounds *links, int output_fd,
                    side_files *ret_files, didi_error *error)
{
    int status = DIDI_OK;
    *ret_files = (side_files){0};
    for (size_t kind = 0; kind < KINDS && status == DIDI_OK; kind++) {
        size_t before = ret_files->count;
        search task = {kind, true, ret_files};
        search base = {kind, false, ret_files};
        if (task_fd >= 0)
            status = file_each_entry(task_fd, note_entry, &task, error);
        if (status == DIDI_OK && ret_files->count == before)
            status = file_each_entry(base_fd, note_entry, &base, error);
        if (ret_files->count > before)
            qsort(ret_files->files + before, ret_files->count - before, sizeof(side_file),
                  compare_files);
    }
    for (size_t i = 0; i < ret_files->count && status == DIDI_OK; i++)
        status = copy_file(ret_files->files[i].of_task ? task_fd : base_fd, links, output_fd,
                           ret_files->files[i].name, error);
    return status;
}

void side_files_clear(side_files *self)
{
    for (size_t i = 0; i < self->count; i++)
        free(self->files[i].name);
    self->count = 0;
}
