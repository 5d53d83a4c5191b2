/* SPDX-License-Identifier: Apache-2.0 */
/* Input: the text of a model.safetensors.index.json. */
#include "src/files/checkpoint_index.h"

#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int holds)
{
    if (!holds)
        abort();
}

/* Every entry agrees with what another reader of JSON finds, and no shard leaves the directory. */
static void check_index(const checkpoint_index *index, const json_t *map)
{
    size_t count = checkpoint_index_tensor_count(index);
    check(json_object_size(map) == count);
    for (size_t i = 0; i < count; i++) {
        const char *tensor = checkpoint_index_tensor(index, i);
        size_t file = checkpoint_index_find(index, tensor);
        check(file < checkpoint_index_file_count(index));
        const char *name = checkpoint_index_file(index, file);
        const char *expected = json_string_value(json_object_get(map, tensor));
        check(expected != NULL && strcmp(name, expected) == 0);
        check(name[0] != '\0' && name[0] != '.' && strpbrk(name, "/\\") == NULL);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    checkpoint_index *index = NULL;
    didi_error error = {0};
    int status = checkpoint_index_parse((const char *)data, size, "file", &index, &error);
    if (status != DIDI_OK) {
        check(status == error.status && error.message[0] != '\0' && index == NULL);
        return 0;
    }
    json_error_t why;
    json_t *tree = json_loadb((const char *)data, size, 0, &why);
    check(json_is_object(tree) || json_error_code(&why) == json_error_numeric_overflow);
    if (tree != NULL)
        check_index(index, json_object_get(tree, "weight_map"));
    json_decref(tree);
    checkpoint_index_free(index);
    return 0;
}
