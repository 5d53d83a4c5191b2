/* SPDX-License-Identifier: Apache-2.0 */
/* Reading of a request for a model. Short because the daemon alone knows what a source means. */
#include "proto/fetch_request.h"

#include "proto/document.h"
#include "proto/field.h"
#include "proto/limits.h"
#include "proto/names.h"

#include <stdlib.h>

static bool is_source(const char *text)
{
    size_t length = 0;
    while (text[length] > ' ' && text[length] <= '~')
        length++;
    return length > 0 && length <= LIMIT_SOURCE_BYTES && text[length] == '\0';
}

static const json_field fetch_fields[] = {
    {.key = "name",
     FIELD_TEXT(name_is_model, "a model's name"),
     .offset = offsetof(fetch_request, name),
     .required = true},
    {.key = "source",
     FIELD_TEXT(is_source, "1 to 2000 printable ASCII characters"),
     .offset = offsetof(fetch_request, source),
     .required = true},
    {.key = NULL},
};

int fetch_request_parse(const char *text, size_t bytes, size_t bytes_max,
                        fetch_request *ret_request, didi_error *error)
{
    fetch_request request = {0};
    json_t *document = NULL;
    int status = document_parse(text, bytes, bytes_max, &document, error);
    if (status != DIDI_OK)
        return status;
    status = field_read_all(fetch_fields, document, &request, "", error);
    json_decref(document);
    if (status != DIDI_OK)
        fetch_request_clear(&request);
    else
        *ret_request = request;
    return status;
}

void fetch_request_clear(fetch_request *request)
{
    free(request->name);
    free(request->source);
}
