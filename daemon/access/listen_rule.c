/* SPDX-License-Identifier: Apache-2.0 */
/* Where the daemon may listen. */
#include "daemon/access/listen_rule.h"

#include <arpa/inet.h>
#include <string.h>

enum { LISTEN_PLACE_BYTES = 256 };

bool listen_is_local(const char *listen)
{
    char host[64] = "";
    struct in_addr v4;
    if (strncmp(listen, "unix:", 5) == 0)
        return true;
    const char *colon = strrchr(listen, ':');
    size_t bytes =
        colon != NULL && strchr(colon, ']') == NULL ? (size_t)(colon - listen) : strlen(listen);
    if (bytes >= sizeof host)
        return false;
    memcpy(host, listen, bytes);
    if (strcmp(host, "localhost") == 0 || strcmp(host, "[::1]") == 0)
        return true;
    return inet_pton(AF_INET, host, &v4) == 1 && ntohl(v4.s_addr) >> 24 == IN_LOOPBACKNET;
}

/* One of the places; what the service manager opened may be reachable from anywhere. */
static int place_check(const listen_facts *facts, const char *place, didi_error *error)
{
    bool tls = facts->tls;
    bool inherited = strcmp(place, "systemd") == 0;
    if (strncmp(place, "https://", 8) == 0 || strncmp(place, "http://", 7) == 0) {
        tls = place[4] == 's';
        place += tls ? 8 : 7;
    }
    if (!inherited && listen_is_local(place))
        return DIDI_OK;
    if (!facts->tokens)
        return didi_fail(error, DIDI_INVALID, "listen",
                         "%.200s is reachable from other machines, and there is no token that "
                         "clients would need; make one first: didid token create",
                         place);
    if (!tls && !facts->behind_proxy && !inherited)
        return didi_fail(error, DIDI_INVALID, "listen",
                         "%.200s is reachable from other machines, and tokens would go there in "
                         "the clear; set tls_certificate and tls_key, or behind_proxy = 1 if a "
                         "proxy in front speaks TLS",
                         place);
    return DIDI_OK;
}

int listen_check(const listen_facts *facts, didi_error *error)
{
    const char *rest = facts->listen;
    int status = DIDI_OK;
    while (status == DIDI_OK && *rest != '\0') {
        char place[LISTEN_PLACE_BYTES];
        size_t bytes = strcspn(rest, ",");
        if (bytes >= sizeof place)
            return didi_fail(error, DIDI_INVALID, "listen",
                             "\"%.100s...\" is no place to listen at", rest);
        memcpy(place, rest, bytes);
        place[bytes] = '\0';
        status = place_check(facts, text_trim(place), error);
        rest += bytes + (rest[bytes] == ',');
    }
    return status;
}
