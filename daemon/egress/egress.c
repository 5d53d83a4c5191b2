/* SPDX-License-Identifier: Apache-2.0 */
/* Rules of hosts and addresses. */
#include "daemon/egress/egress.h"

#include "src/base/base.h"

#include <curl/curl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

char *egress_url_part(const char *url, egress_part part)
{
    static const CURLUPart parts[] = {CURLUPART_SCHEME, CURLUPART_HOST, CURLUPART_PORT,
                                      CURLUPART_USER};
    CURLU *parsed = curl_url();
    char *text = NULL;
    char *copy = NULL;
    if (parsed != NULL && curl_url_set(parsed, CURLUPART_URL, url, 0) == CURLUE_OK &&
        curl_url_get(parsed, parts[part], &text, part == EGRESS_PORT ? CURLU_DEFAULT_PORT : 0) ==
            CURLUE_OK)
        copy = memory_string(text);
    curl_free(text);
    curl_url_cleanup(parsed);
    return copy;
}

static bool v4_is_public(uint32_t address)
{
    static const struct {
        uint32_t net;
        unsigned bits;
    } closed[] = {{0x00000000, 8},  {0x0A000000, 8},  {0x64400000, 10}, {0x7F000000, 8},
                  {0xA9FE0000, 16}, {0xAC100000, 12}, {0xC0000000, 24}, {0xC0000200, 24},
                  {0xC0A80000, 16}, {0xC6120000, 15}, {0xC6336400, 24}, {0xCB007100, 24},
                  {0xE0000000, 3}};
    bool open = true;
    for (size_t i = 0; i < sizeof closed / sizeof *closed; i++)
        open &= (address ^ closed[i].net) >> (32 - closed[i].bits) != 0;
    return open;
}

static uint32_t v4_of(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

bool egress_address_is_public(const struct sockaddr *address)
{
    if (address->sa_family == AF_INET) {
        struct sockaddr_in v4;
        memcpy(&v4, address, sizeof v4);
        return v4_is_public(ntohl(v4.sin_addr.s_addr));
    }
    if (address->sa_family != AF_INET6)
        return false;
    static const uint8_t translated[12] = {0x00, 0x64, 0xFF, 0x9B};
    struct sockaddr_in6 v6;
    memcpy(&v6, address, sizeof v6);
    const uint8_t *bytes = v6.sin6_addr.s6_addr;
    if (IN6_IS_ADDR_V4MAPPED(&v6.sin6_addr) || memcmp(bytes, translated, sizeof translated) == 0)
        return v4_is_public(v4_of(bytes + 12));
    if (bytes[0] == 0x20 && bytes[1] == 0x02) /* 6to4 */
        return v4_is_public(v4_of(bytes + 2));
    return (bytes[0] & 0xE0U) == 0x20; /* global unicast is 2000::/3 */
}

bool egress_host_is_listed(const char *hosts, const char *host)
{
    size_t length = strlen(host);
    for (const char *at = hosts; at != NULL && *at != '\0'; at += strspn(at, ", ")) {
        size_t bytes = strcspn(at, ", ");
        bool below =
            at[0] == '.' && bytes < length && strncasecmp(host + length - bytes, at, bytes) == 0;
        if (below || (bytes == length && strncasecmp(host, at, bytes) == 0))
            return true;
        at += bytes;
    }
    return false;
}

int egress_open_socket(const struct sockaddr *address, int type, int protocol, bool allow_private,
                       bool *ret_refused)
{
    *ret_refused = !allow_private && !egress_address_is_public(address);
    return *ret_refused ? -1 : socket(address->sa_family, type | SOCK_CLOEXEC, protocol);
}

bool egress_header_value(const char *line, size_t bytes, const char *name, char *ret_value,
                         size_t room)
{
    const size_t length = strlen(name);
    if (bytes <= length || line[length] != ':' || strncasecmp(line, name, length) != 0)
        return false;
    const char *value = line + length + 1;
    const char *end = line + bytes;
    while (value < end && strchr(" \t", *value) != NULL)
        value++;
    while (end > value && strchr("\r\n \t", end[-1]) != NULL)
        end--;
    (void)snprintf(ret_value, room, "%.*s", (int)(end - value), value);
    return true;
}
