/* SPDX-License-Identifier: Apache-2.0 */
/* Input: the value of an Authorization header; the same as a request for a token. */
#include "daemon/access/token.h"
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
    didi_error error = {0};
    token_request asked = {0};
    unsigned char secret[TOKEN_SECRET_BYTES] = {0};
    char made[TOKEN_TEXT_BYTES];
    char *text = malloc(size + 1);
    check(text != NULL);
    if (size > 0)
        memcpy(text, data, size);
    text[size] = '\0';
    const char *token = token_from_header(text);
    if (token != NULL)
        check(strlen(token) == TOKEN_CHARACTERS && token_is_well_formed(token));
    if (size > 0)
        memcpy(secret, data, size < sizeof secret ? size : sizeof secret);
    token_write(secret, made);
    check(token_is_well_formed(made));
    if (token_request_parse(text, size, 65536, &asked, &error) == DIDI_OK) {
        check(asked.scope >= 0 && asked.scope < TOKEN_SCOPE_COUNT);
        check(asked.expires_seconds == 0 || asked.expires_seconds >= 60);
    }
    token_request_clear(&asked);
    free(text);
    return 0;
}
