/* SPDX-License-Identifier: Apache-2.0 */
/* Input: the body of a request about a webhook; also an answer, and a secret as it is stored. */
#include "daemon/webhooks/queue.h"
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

/* Each secret that is taken can be signed with. */
static void check_secret(const char *secret)
{
    const signed_message message = {.id = "i", .timestamp = 1, .body = "b"};
    char *signature = NULL;
    check(secret_sign(&message, &secret, 1, &signature, NULL) == DIDI_OK);
    check(strlen(signature) == 3 + 44);
    free(signature);
}

static void check_request(webhook_request_kind kind, const char *text, size_t size)
{
    webhook_request request = {0};
    didi_error error = {0};
    int status = webhook_request_parse(kind, text, size, &request, &error);
    if (status != DIDI_OK) {
        check(status == error.status && error.message[0] != '\0');
        return;
    }
    char *events = webhook_request_events(&request);
    check(events != NULL && (request.url != NULL || kind != WEBHOOK_REQUEST_CREATE));
    if (request.secret != NULL)
        check_secret(request.secret);
    free(events);
    webhook_request_clear(&request);
}

/* Nothing that a terminal obeys is left, and nothing is cut within a character. */
static void check_answer(const char *text, size_t size)
{
    char shown[512];
    queue_escape(shown, sizeof shown, text, size);
    const size_t length = strlen(shown);
    check(!text_has_control(shown, length) && text_is_utf8(shown, length));
}

static void check_stored(const char *text, size_t size)
{
    char *sealed = memory_zeroed(size + 1, 1);
    char *opened = NULL;
    check(sealed != NULL);
    memcpy(sealed, text, size);
    if (secret_open(NULL, sealed, &opened, NULL) == DIDI_OK) {
        const signed_message message = {.id = "i", .timestamp = 1, .body = "b"};
        char *signature = NULL;
        if (secret_sign(&message, (const char *const *)&opened, 1, &signature, NULL) == DIDI_OK)
            free(signature);
        secret_free(opened);
    }
    free(sealed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    check_request(WEBHOOK_REQUEST_CREATE, text, size);
    check_request(WEBHOOK_REQUEST_UPDATE, text, size);
    check_request(WEBHOOK_REQUEST_ROTATE, text, size);
    check_answer(text, size);
    check_stored(text, size);
    return 0;
}
