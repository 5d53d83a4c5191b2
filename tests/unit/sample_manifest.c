/* SPDX-License-Identifier: Apache-2.0 */
/* Manifests as tests read them. */
#include "tests/unit/sample_manifest.h"

#include "src/base/file.h"
#include "tests/unit/sample_summary.h"
#include "tests/unit/support.h"

#include <stdlib.h>
#include <unistd.h>

json_t *sample_manifest(const sample_family *sample, const char *package)
{
    int directory = -1;
    char *text = NULL;
    size_t bytes = 0;
    didi_error error = {0};
    sample_must(file_open_directory(sample->output, package, 0, &directory, &error), &error);
    sample_must(file_read_text(directory, "manifest.json", 1 << 20, &text, &bytes, &error), &error);
    close(directory);
    json_t *manifest = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(manifest);
    free(text);
    return manifest;
}

double sample_number(const json_t *manifest, const char *section, const char *name)
{
    return json_number_value(json_object_get(json_object_get(manifest, section), name));
}
