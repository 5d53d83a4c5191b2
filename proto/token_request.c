/* SPDX-License-Identifier: Apache-2.0 */
/* Requests for tokens, from JSON and from words. */
#include "proto/token_request.h"

#include "proto/document.h"
#include "proto/field.h"
#include "proto/limits.h"
#include "proto/names.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const char *const scope_words[] = {TOKEN_SCOPE_TABLE(TEXT_WORD) NULL};

static bool is_token_name(const char *text)
{
    size_t bytes = strlen(text);
    return bytes <= LIMIT_TOKEN_NAME_CHARACTERS && bytes > 0 && name_component(text) == bytes;
}

#define NAME_EXPECTED "1 to 64 of A-Z, a-z, 0-9, '.', '_', '-', no '.' first"
static const json_field token_fields[] = {
    {.key = "name",
     FIELD_TEXT(is_token_name, NAME_EXPECTED),
     .offset = offsetof(token_request, name),
     .required = true},
    {.key = "scope",
     FIELD_CHOICE(scope_words),
     .offset = offsetof(token_request, scope),
     .required = true},
    {.key = "expires_seconds",
     FIELD_INTEGER(60, LIMIT_TOKEN_SECONDS),
     .offset = offsetof(token_request, expires_seconds)},
    {.key = NULL},
};

int token_request_parse(const char *text, size_t bytes, size_t bytes_max,
                        token_request *ret_request, didi_error *error)
{
    token_request request = {0};
    json_t *document = NULL;
    int status = document_parse(text, bytes, bytes_max, &document, error);
    if (status != DIDI_OK)
        return status;
    status = field_read_all(token_fields, document, &request, "", error);
    json_decref(document);
    if (status != DIDI_OK)
        token_request_clear(&request);
    else
        *ret_request = request;
    return status;
}

void token_request_clear(token_request *request)
{
    free(request->name);
    request->name = NULL;
}

static int read_expires(const char *text, int64_t *ret_seconds, didi_error *error)
{
    static const struct {
        char letter;
        int64_t seconds;
    } units[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}, {'w', 604800}};
    char *end = NULL;
    errno = 0;
    long long number = strtoll(text, &end, 10);
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        if (errno == 0 && end != text && text[0] >= '0' && text[0] <= '9' &&
            end[0] == units[i].letter && end[1] == '\0' &&
            number <= LIMIT_TOKEN_SECONDS / units[i].seconds && number * units[i].seconds >= 60) {
            *ret_seconds = number * units[i].seconds;
            return DIDI_OK;
        }
    }
    return didi_fail(error, DIDI_INVALID, NULL,
                     "'%.32s' is not a time from 60s to 3650d such as 12h or 90d", text);
}

int token_request_from_texts(const char *name, const char *scope, const char *expires,
                             token_request *ret_request, didi_error *error)
{
    token_request request = {0};
    size_t found = text_find(scope_words, TOKEN_SCOPE_COUNT, scope);
    if (!is_token_name(name))
        return didi_fail(error, DIDI_INVALID, NULL, "a token's name must be " NAME_EXPECTED);
    if (found == TOKEN_SCOPE_COUNT)
        return didi_fail(error, DIDI_INVALID, NULL, "'%.32s' is not read, submit or admin", scope);
    request.scope = (int)found;
    if (expires != NULL && read_expires(expires, &request.expires_seconds, error) != DIDI_OK)
        return DIDI_INVALID;
    request.name = memory_string(name);
    if (request.name == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    *ret_request = request;
    return DIDI_OK;
}

char *token_request_write(const token_request *request)
{
    json_t *body =
        json_pack("{s:s, s:s}", "name", request->name, "scope", scope_words[request->scope]);
    if (body != NULL && request->expires_seconds != 0)
        json_object_set_new(body, "expires_seconds",
                            json_integer((json_int_t)request->expires_seconds));
    char *text = body != NULL ? json_dumps(body, JSON_COMPACT) : NULL;
    json_decref(body);
    return text;
}
