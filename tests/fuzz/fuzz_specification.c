/* SPDX-License-Identifier: Apache-2.0 */
/* Input: the body of a job or export request. */
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

/* What was taken is written so that it is taken again, to the same text. */
static void check_round_trip(const specification *first)
{
    specification *second = NULL;
    char *once = NULL, *twice = NULL;
    check(specification_render(first, &once, NULL) == DIDI_OK);
    check(specification_parse(once, strlen(once), SIZE_MAX, &second, NULL) == DIDI_OK);
    check(specification_render(second, &twice, NULL) == DIDI_OK);
    check(strcmp(once, twice) == 0);
    free(once);
    free(twice);
    specification_free(second);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    specification *made = NULL;
    export_request request = {0};
    didi_error error = {0};
    int status = specification_parse((const char *)data, size, LIMIT_BODY_BYTES, &made, &error);
    if (status != DIDI_OK) {
        check(status == error.status && error.message[0] != '\0' && made == NULL);
    } else {
        check(made->task_count > 0 && made->budget.value > 0);
        check_round_trip(made);
    }
    specification_free(made);
    if (export_request_parse((const char *)data, size, LIMIT_BODY_BYTES, &request, &error) ==
        DIDI_OK)
        export_request_clear(&request);
    return 0;
}
