/* SPDX-License-Identifier: Apache-2.0 */
/* Input: what a client sends. What is taken for a head must be one, however its bytes arrived. */
#include "daemon/http/head.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int holds)
{
    if (!holds)
        abort();
}

/* What http_head_parse lets through, judged again from the bytes. */
static void check_head(const char *bytes, size_t length, const http_head *head)
{
    unsigned hosts = 0, lengths = 0, codings = 0;
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)bytes[i];
        check(c != '\0' && c != 0x7f && (c >= ' ' || c == '\t' || c == '\r' || c == '\n'));
        check(c != '\n' || bytes[i - 1] == '\r');
        check(c != '\r' || bytes[i + 1] == '\n');
        check(c != '\n' || i + 1 == length || (bytes[i + 1] != ' ' && bytes[i + 1] != '\t'));
    }
    check(head->field_count <= HTTP_HEAD_FIELDS_MAX);
    for (size_t i = 0; i < head->field_count; i++) {
        const char *name = head->text + head->fields[i].name;
        const char *value = head->text + head->fields[i].value;
        check(http_is_token(name, strlen(name)));
        check(value[0] != ' ' && value[0] != '\t');
        hosts += strcasecmp(name, "host") == 0;
        lengths += strcasecmp(name, "content-length") == 0;
        codings += strcasecmp(name, "transfer-encoding") == 0;
    }
    check(hosts == 1 && lengths + codings <= 1);
    check(head->has_length == (lengths == 1) && head->chunked == (codings == 1));
    check(!head->chunked || !head->is_1_0);
    check(http_is_token(head->method, strlen(head->method)) && head->target[0] != '\0');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *bytes = (const char *)data;
    http_fault fault = {0}, again = {0};
    http_head head;
    size_t seen = 0, length = 0;
    size_t at_once = 0;
    size_t whole = http_head_find(bytes, size, &at_once, &fault);
    for (size_t count = 1; count <= size && length == 0 && again.detail == NULL; count++)
        length = http_head_find(bytes, count, &seen, &again);
    check(length == whole && (again.detail == NULL) == (fault.detail == NULL));
    if (length == 0)
        return 0;
    char *text = malloc(length + 1);
    check(text != NULL);
    memcpy(text, bytes, length);
    if (http_head_parse(text, length, &head, &fault))
        check_head(bytes, length, &head);
    else
        check(fault.detail != NULL);
    free(text);
    return 0;
}
