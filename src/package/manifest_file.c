/* SPDX-License-Identifier: Apache-2.0 */
/* Manifests read back. */
#include "src/package/manifest_file.h"

#include "src/base/base.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { MANIFEST_BYTES_MAX = 256 << 20 };

int manifest_file_read(int package_fd, json_t **ret_manifest, didi_error *error)
{
    char *text = NULL;
    size_t bytes = 0;
    int status =
        file_read_text(package_fd, "manifest.json", MANIFEST_BYTES_MAX, &text, &bytes, error);
    if (status != DIDI_OK)
        return status;
    json_t *manifest = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, NULL);
    free(text);
    if (!json_is_object(manifest)) {
        json_decref(manifest);
        return didi_fail(error, DIDI_FORMAT, "manifest.json", "the manifest is not a JSON object");
    }
    *ret_manifest = manifest;
    return DIDI_OK;
}

json_t *manifest_file_row(const json_t *rows, const char *key, const char *value)
{
    assert(key != NULL);
    for (size_t i = 0; value != NULL && i < json_array_size(rows); i++) {
        json_t *row = json_array_get(rows, i);
        const char *found = json_string_value(json_object_get(row, key));
        if (found != NULL && strcmp(found, value) == 0)
            return row;
    }
    return NULL;
}

const json_t *manifest_file_base(const json_t *manifest)
{
    const json_t *base = json_object_get(json_object_get(manifest, "inputs"), "base");
    const json_t *files = json_object_get(base, "files");
    return json_is_array(files) ? files : NULL;
}
