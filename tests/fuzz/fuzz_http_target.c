/* SPDX-License-Identifier: Apache-2.0 */
/* Input: a request target; the same text as Range header and as list of ETags. */
#include "daemon/http/range.h"
#include "daemon/http/target.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int holds)
{
    if (!holds)
        abort();
}

static void check_target(const http_target *target)
{
    check(target->segment_count <= HTTP_TARGET_SEGMENTS_MAX);
    check(target->parameter_count <= HTTP_TARGET_PARAMETERS_MAX);
    for (size_t i = 0; i < target->segment_count; i++) {
        const char *segment = target->segments[i];
        check(segment[0] != '\0' && strpbrk(segment, "/\\\n") == NULL);
        check(strcmp(segment, ".") != 0 && strcmp(segment, "..") != 0);
    }
    for (size_t i = 0; i < target->parameter_count; i++)
        check(strlen(target->parameters[i].name) + strlen(target->parameters[i].value) <
              HTTP_TARGET_BYTES_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint64_t bytes[] = {0, 1, 1000, UINT64_MAX};
    http_target target;
    char *text = malloc(size + 1);
    check(text != NULL);
    if (size > 0)
        memcpy(text, data, size);
    text[size] = '\0';
    if (http_target_parse(text, &target) == NULL)
        check_target(&target);
    for (size_t i = 0; i < sizeof bytes / sizeof bytes[0]; i++) {
        uint64_t first = 1, last = 0;
        if (http_range_parse(text, bytes[i], &first, &last) == HTTP_RANGE_PART)
            check(first <= last && last < bytes[i]);
    }
    http_etag_in_list(text, "\"sha256-x\"", size % 2 == 0);
    free(text);
    return 0;
}
