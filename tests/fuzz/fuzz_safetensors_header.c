/* SPDX-License-Identifier: Apache-2.0 */
/* Input: 4 bytes, the length of the data (little-endian), then the text of the header. */
#include "src/files/safetensors.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds)
{
    if (!holds)
        abort();
}

/* What the reader promises of a header it accepts. */
static void check_header(const safetensors_header *header, uint64_t json_bytes, uint64_t data_bytes)
{
    uint64_t offset = 8 + json_bytes;
    for (size_t i = 0; i < safetensors_header_count(header); i++) {
        const safetensors_tensor *tensor = safetensors_header_at(header, i);
        uint64_t elements = 1;
        for (size_t j = 0; j < tensor->dimensions; j++)
            elements *= tensor->shape[j];
        check(tensor->offset == offset);
        check(tensor->elements == elements);
        check(tensor->bytes == elements * didi_dtype_bits(tensor->dtype) / 8);
        check(safetensors_header_find(header, tensor->name) == tensor);
        check(strlen(tensor->name) <= SAFETENSORS_NAME_BYTES_MAX);
        offset += tensor->bytes;
    }
    check(offset == 8 + json_bytes + data_bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint32_t data_bytes = 0;
    if (size < sizeof(data_bytes))
        return 0;
    memcpy(&data_bytes, data, sizeof(data_bytes));
    const char *json = (const char *)data + sizeof(data_bytes);
    uint64_t json_bytes = size - sizeof(data_bytes);
    safetensors_header *header = NULL;
    didi_error error = {0};
    int status = safetensors_header_parse(json, json_bytes, 8 + json_bytes + data_bytes, "file",
                                          &header, &error);
    if (status != DIDI_OK) {
        check(status == error.status && error.message[0] != '\0' && header == NULL);
        return 0;
    }
    check_header(header, json_bytes, data_bytes);
    /* Another reader of JSON must accept it too, but for numbers too large for its types. */
    json_error_t why;
    json_t *tree = json_loadb(json, (size_t)json_bytes, 0, &why);
    check(json_is_object(tree) || json_error_code(&why) == json_error_numeric_overflow);
    json_decref(tree);
    safetensors_header_free(header);
    return 0;
}
