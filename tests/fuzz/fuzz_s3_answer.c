/* SPDX-License-Identifier: Apache-2.0 */
/* Input: an answer of S3. What is read of it is bounded and ended, whatever it is. */
#include "daemon/s3/answer.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int holds)
{
    if (!holds)
        abort();
}

static int visit(void *context, const char *parent, const char *name, const char *text,
                 didi_error *error)
{
    size_t *seen = context;
    (void)error;
    check(strlen(text) < ANSWER_TEXT_BYTES);
    check(name[0] != '\0' && strlen(parent) < 64);
    *seen += 1;
    return DIDI_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t seen = 0;
    didi_error error = {0};
    answer_failure failure;
    int status = answer_read((const char *)data, size, visit, &seen, &error);
    check(status == DIDI_OK || error.message[0] != '\0');
    check(status != DIDI_OK || seen > 0); /* a document has an element that holds no other */
    answer_read_failure((const char *)data, size, &failure);
    check(memchr(failure.code, '\0', sizeof failure.code) != NULL);
    check(memchr(failure.message, '\0', sizeof failure.message) != NULL);
    return 0;
}
