/* SPDX-License-Identifier: Apache-2.0 */
/* Input: a list of networks, a line break, and the lines of a head after its Host. */
#include "daemon/http/forwarded.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int holds)
{
    if (!holds)
        abort();
}

/* What is read as an address is one, and names itself. */
static void check_address(const char *address)
{
    http_networks own;
    if (address[0] == '\0')
        return;
    check(http_networks_parse(address, &own, NULL) == DIDI_OK);
    check(http_networks_has(&own, address));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char start[] = "GET / HTTP/1.1\r\nHost: a\r\n";
    const uint8_t *end = size > 0 ? memchr(data, '\n', size) : NULL;
    http_networks trusted = {.count = 0};
    http_fault fault = {0};
    http_head head;
    char address[INET6_ADDRSTRLEN];
    if (end == NULL || size > HTTP_HEAD_BYTES_MAX - sizeof start)
        return 0;
    char *text = calloc(1, size + sizeof start + 1);
    check(text != NULL);
    memcpy(text, data, (size_t)(end - data));
    if (http_networks_parse(text, &trusted, NULL) == DIDI_OK)
        check(trusted.count > 0 && trusted.count <= HTTP_NETWORKS_MAX);
    size_t rest = size - (size_t)(end + 1 - data);
    size_t length = sizeof start - 1 + rest;
    memcpy(text, start, sizeof start - 1);
    memcpy(text + sizeof start - 1, end + 1, rest);
    if (http_head_parse(text, length, &head, &fault) &&
        http_forwarded_client(&head, &trusted, address, &fault))
        check_address(address);
    free(text);
    return 0;
}
