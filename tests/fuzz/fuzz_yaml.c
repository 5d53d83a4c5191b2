/* SPDX-License-Identifier: Apache-2.0 */
/* Input: a YAML document. Short because what it means is for unit tests. */
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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    json_t *value = NULL;
    json_t *again = NULL;
    didi_error error = {0};
    int status = document_parse_yaml((const char *)data, size, LIMIT_BODY_BYTES, &value, &error);
    if (status != DIDI_OK) {
        check(status == error.status && error.message[0] != '\0' && value == NULL);
        return 0;
    }
    /* What was taken is a document that JSON can say. */
    char *text = document_render(value);
    check(text != NULL);
    check(document_parse(text, strlen(text), SIZE_MAX, &again, &error) == DIDI_OK);
    json_decref(again);
    json_decref(value);
    free(text);
    return 0;
}
