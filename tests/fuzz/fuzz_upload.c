/* SPDX-License-Identifier: Apache-2.0 */
/* Input: a request to upload a model; the same text as Content-Range and as a file's name. */
#include "daemon/uploads/content_range.h"
#include "proto/proto.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int holds)
{
    if (!holds)
        abort();
}

static void check_request(const char *text, size_t size)
{
    upload_request request = {0};
    didi_error error = {0};
    uint64_t bytes = 0;
    if (upload_request_parse(text, size, size, &request, &error) != DIDI_OK) {
        check(error.status != DIDI_OK && error.message[0] != '\0');
        return;
    }
    check(name_is_model(request.name) && strchr(request.name, '@') == NULL);
    check(request.count > 0 && request.count <= LIMIT_UPLOAD_FILES);
    for (size_t i = 0; i < request.count; i++) {
        const upload_file *file = &request.files[i];
        check(upload_name_is_file(file->name) && strlen(file->sha256) == 64);
        check(upload_request_find(&request, file->name) == file);
        bytes += file->bytes;
    }
    check(bytes == request.bytes && bytes <= (uint64_t)LIMIT_SAFE_INTEGER);
    upload_request_clear(&request);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    content_range range;
    char *text = malloc(size + 1);
    if (text == NULL)
        return 0;
    memcpy(text, data, size);
    text[size] = '\0';
    check_request(text, size);
    if (content_range_parse(text, &range)) {
        check(range.first <= range.last && range.last <= (uint64_t)LIMIT_SAFE_INTEGER);
        check(range.last < range.total);
    }
    if (upload_name_is_file(text))
        check(text[0] != '.' && strpbrk(text, "/\\ \n") == NULL &&
              strlen(text) <= LIMIT_UPLOAD_FILE_NAME_BYTES);
    free(text);
    return 0;
}
