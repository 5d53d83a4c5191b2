/* SPDX-License-Identifier: Apache-2.0 */
/* Reading what proxies say of their clients, as strictly as heads are read. */
#include "daemon/http/forwarded.h"

#include "daemon/http/target.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { V4_BITS = 96 /* of IPv6 before the IPv4 address that it carries */, NODE_BYTES = 80 };

static const char forwarded_for[] = "X-Forwarded-For";
static const char forwarded[] = "Forwarded";

static bool address_parse(const char *text, struct in6_addr *ret_address)
{
    struct in_addr v4;
    if (inet_pton(AF_INET, text, &v4) != 1)
        return inet_pton(AF_INET6, text, ret_address) == 1;
    memset(ret_address, 0, sizeof *ret_address);
    memset(ret_address->s6_addr + 10, 0xff, 2);
    memcpy(ret_address->s6_addr + 12, &v4, sizeof v4);
    return true;
}

static void address_print(const struct in6_addr *address, char ret_text[INET6_ADDRSTRLEN])
{
    bool is_v4 = IN6_IS_ADDR_V4MAPPED(address);
    inet_ntop(is_v4 ? AF_INET : AF_INET6, is_v4 ? address->s6_addr + 12 : address->s6_addr,
              ret_text, INET6_ADDRSTRLEN);
}

/* ---- networks ---- */

static bool network_has(const http_network *network, const struct in6_addr *address)
{
    unsigned whole = network->bits / 8;
    unsigned rest = network->bits % 8;
    unsigned mask = 0xff00U >> rest & 0xff;
    return memcmp(network->address.s6_addr, address->s6_addr, whole) == 0 &&
           (rest == 0 || ((network->address.s6_addr[whole] ^ address->s6_addr[whole]) & mask) == 0);
}

/* Cuts `text` up. */
static bool network_parse(char *text, http_network *ret_network)
{
    char *slash = strchr(text, '/');
    long long bits = 0;
    if (slash != NULL)
        *slash = '\0';
    bool is_v4 = strchr(text, ':') == NULL;
    int most = is_v4 ? 32 : 128;
    bits = most;
    if (!address_parse(text, &ret_network->address) ||
        (slash != NULL && !http_number_parse(slash + 1, 0, most, &bits)))
        return false;
    ret_network->bits = (unsigned)bits + (is_v4 ? V4_BITS : 0);
    return true;
}

int http_networks_parse(const char *text, http_networks *ret_networks, didi_error *error)
{
    http_networks read = {.count = 0};
    char *copy = memory_string(text == NULL ? "" : text);
    char *rest = text == NULL ? NULL : copy;
    int status = copy == NULL ? didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory") : DIDI_OK;
    while (status == DIDI_OK && rest != NULL) {
        char *one = text_trim(strsep(&rest, ","));
        char shown[NODE_BYTES];
        snprintf(shown, sizeof shown, "%s", one);
        if (read.count == HTTP_NETWORKS_MAX)
            status = didi_fail(error, DIDI_INVALID, "trusted_proxies",
                               "trusted_proxies: more than %d networks", HTTP_NETWORKS_MAX);
        else if (!network_parse(one, &read.list[read.count++]))
            status = didi_fail(error, DIDI_INVALID, "trusted_proxies",
                               "trusted_proxies: '%s' is neither ADDRESS nor ADDRESS/BITS", shown);
    }
    free(copy);
    if (status == DIDI_OK)
        *ret_networks = read;
    return status;
}

static bool networks_have(const http_networks *self, const struct in6_addr *address)
{
    for (size_t i = 0; i < self->count; i++)
        if (network_has(&self->list[i], address))
            return true;
    return false;
}

bool http_networks_has(const http_networks *self, const char *address)
{
    struct in6_addr parsed;
    return self->count > 0 && address_parse(address, &parsed) && networks_have(self, &parsed);
}

/* ---- the headers ---- */

/* What was read of a header so far. */
typedef struct forwarded_path {
    const http_networks *trusted;
    const char *header;
    size_t count;
    struct in6_addr client; /* the last that is not trusted, else the first */
} forwarded_path;

static bool refuse(const forwarded_path *path, const char *detail, http_fault *fault)
{
    *fault = (http_fault){PROBLEM_MALFORMED_REQUEST, detail, path->header};
    return false;
}

/* ADDRESS, V4:PORT, [V6] or [V6]:PORT. */
static bool node_parse(const char *node, struct in6_addr *ret_address)
{
    char host[NODE_BYTES];
    long long port;
    const char *end = node + strlen(node);
    const char *colon = strrchr(node, ':');
    bool bracketed = node[0] == '[';
    if (colon != NULL && (bracketed ? colon[-1] == ']' : strchr(node, ':') == colon)) {
        if (!http_number_parse(colon + 1, 0, 65535, &port))
            return false;
        end = colon;
    }
    if (bracketed && (end - node < 3 || end[-1] != ']'))
        return false;
    node += bracketed;
    end -= bracketed;
    snprintf(host, sizeof host, "%.*s", (int)(end - node), node);
    return (!bracketed || strchr(host, ':') != NULL) && address_parse(host, ret_address);
}

static bool path_add(forwarded_path *path, const char *node, http_fault *fault)
{
    struct in6_addr address;
    if (path->count == HTTP_FORWARDED_MAX)
        return refuse(path, "it names more than 32 addresses", fault);
    if (strlen(node) >= NODE_BYTES || !node_parse(node, &address))
        return refuse(path, "a trusted proxy sent something else than a list of addresses", fault);
    if (path->count == 0 || !networks_have(path->trusted, &address))
        path->client = address;
    path->count++;
    return true;
}

static bool is_separator(char c)
{
    return c == ' ' || c == '\t' || c == ',' || c == ';';
}

/* An element of Forwarded, "for=ADDRESS;proto=https": the value of its `for`. Returns where it
 * ends, NULL where it is malformed or has not exactly one `for`. */
static const char *element_read(const char *text, char ret_node[NODE_BYTES])
{
    unsigned count = 0;
    for (;; text++) {
        size_t name = strcspn(text, "=,;");
        if (text[name] != '=' || !http_is_token(text, name))
            return NULL;
        bool is_for = name == 3 && strncasecmp(text, "for", name) == 0;
        text += name + 1;
        bool quoted = *text == '"';
        text += quoted;
        size_t bytes = 0;
        while (text[bytes] != '\0' && text[bytes] != '"' && text[bytes] != '\\' &&
               (quoted || !is_separator(text[bytes])))
            bytes++;
        if (bytes == 0 || (quoted && text[bytes] != '"'))
            return NULL;
        if (is_for && (count++ > 0 || bytes >= NODE_BYTES))
            return NULL;
        if (is_for)
            snprintf(ret_node, NODE_BYTES, "%.*s", (int)bytes, text);
        text += bytes + quoted;
        if (*text != ';')
            return count == 1 ? text : NULL;
    }
}

static bool read_forwarded(forwarded_path *path, const char *text, http_fault *fault)
{
    char node[NODE_BYTES];
    for (;; text++) {
        text = element_read(text + strspn(text, " \t"), node);
        if (text == NULL)
            return refuse(path, "a trusted proxy sent something else than for=ADDRESS,...", fault);
        if (!path_add(path, node, fault))
            return false;
        text += strspn(text, " \t");
        if (*text == '\0')
            return true;
        if (*text != ',')
            return refuse(path, "a trusted proxy sent something else than for=ADDRESS,...", fault);
    }
}

static bool read_forwarded_for(forwarded_path *path, const char *text, http_fault *fault)
{
    char node[NODE_BYTES];
    for (;; text++) {
        text += strspn(text, " \t");
        size_t bytes = strcspn(text, ", \t");
        snprintf(node, sizeof node, "%.*s", (int)smaller(bytes, sizeof node - 1), text);
        text += bytes;
        text += strspn(text, " \t");
        if (bytes >= sizeof node || (*text != ',' && *text != '\0'))
            return refuse(path, "a trusted proxy sent something else than a list of addresses",
                          fault);
        if (!path_add(path, node, fault))
            return false;
        if (*text == '\0')
            return true;
    }
}

bool http_forwarded_client(const http_head *head, const http_networks *trusted,
                           char ret_address[INET6_ADDRSTRLEN], http_fault *fault)
{
    forwarded_path path = {.trusted = trusted};
    ret_address[0] = '\0';
    for (size_t i = 0; i < head->field_count; i++) {
        const char *name = head->text + head->fields[i].name;
        const char *value = head->text + head->fields[i].value;
        bool is_for = strcasecmp(name, forwarded_for) == 0;
        if (!is_for && strcasecmp(name, forwarded) != 0)
            continue;
        const char *header = is_for ? forwarded_for : forwarded;
        if (path.header != NULL && path.header != header)
            return refuse(&path, "Forwarded and X-Forwarded-For are there together", fault);
        path.header = header;
        if (!(is_for ? read_forwarded_for : read_forwarded)(&path, value, fault))
            return false;
    }
    if (path.count > 0)
        address_print(&path.client, ret_address);
    return true;
}
