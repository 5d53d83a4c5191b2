/* SPDX-License-Identifier: Apache-2.0 */
/* Opening of the listening socket. */
#include "daemon/http/listen.h"

#include "daemon/http/target.h"
#include "src/base/base.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { HTTP_BACKLOG = 128 /* connections the kernel holds */ };

typedef union socket_address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    struct sockaddr_un local;
} socket_address;

static int listen_refuse(const char *place, didi_error *error)
{
    return didi_fail(error, DIDI_INVALID, "listen",
                     "cannot listen on \"%.200s\": it must be a loopback ADDRESS:PORT such as "
                     "127.0.0.1:7878, [::1]:7878, or unix:/PATH",
                     place);
}

static int listen_failed(const char *place, int errno_value, didi_error *error)
{
    if (errno_value == EADDRINUSE)
        return didi_fail(error, DIDI_CONFLICT, place, "cannot listen on %s: the address is in use",
                         place);
    return didi_fail_errno(error, errno_value, place, "cannot listen on %s", place);
}

/* Splits at the last colon and reads both sides. */
static bool parse_tcp(const char *place, http_listener *listener, socket_address *address,
                      socklen_t *ret_bytes)
{
    const char *colon = strrchr(place, ':');
    long long port;
    char host[64] = "";
    if (colon == NULL || (size_t)(colon - place) >= sizeof host ||
        !http_number_parse(colon + 1, 0, 65535, &port))
        return false;
    memcpy(host, place, (size_t)(colon - place));
    if (strcmp(host, "[::1]") == 0) {
        address->v6 = (struct sockaddr_in6){.sin6_family = AF_INET6,
                                            .sin6_port = htons((uint16_t)port),
                                            .sin6_addr = in6addr_loopback};
        *ret_bytes = sizeof address->v6;
    } else {
        const char *numeric = strcmp(host, "localhost") == 0 ? "127.0.0.1" : host;
        address->v4 =
            (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
        if (inet_pton(AF_INET, numeric, &address->v4.sin_addr) != 1 ||
            ntohl(address->v4.sin_addr.s_addr) >> 24 != IN_LOOPBACKNET)
            return false;
        *ret_bytes = sizeof address->v4;
        memcpy(host, numeric, strlen(numeric) + 1);
    }
    memcpy(listener->host, host, sizeof host);
    return true;
}

static int open_tcp(const char *place, http_listener *listener, didi_error *error)
{
    socket_address address = {0};
    socklen_t bytes = 0;
    int yes = 1;
    if (!parse_tcp(place, listener, &address, &bytes))
        return listen_refuse(place, error);
    listener->fd = socket(address.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (listener->fd < 0 ||
        setsockopt(listener->fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) != 0 ||
        bind(listener->fd, &address.any, bytes) != 0 ||
        getsockname(listener->fd, &address.any, &bytes) != 0)
        return listen_failed(place, errno, error);
    listener->port =
        ntohs(address.any.sa_family == AF_INET6 ? address.v6.sin6_port : address.v4.sin_port);
    snprintf(listener->address, sizeof listener->address, "%s:%u", listener->host, listener->port);
    return DIDI_OK;
}

/* True when a process answers on the socket, or when there is no telling. */
static bool local_is_alive(const socket_address *address)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool alive =
        fd < 0 || connect(fd, &address->any, sizeof address->local) == 0 || errno != ECONNREFUSED;
    file_close(fd);
    return alive;
}

static int open_local(const char *path, http_listener *listener, didi_error *error)
{
    socket_address address = {.local = {.sun_family = AF_UNIX}};
    struct stat found;
    if (path[0] != '/' || strlen(path) >= sizeof address.local.sun_path)
        return didi_fail(error, DIDI_INVALID, "listen",
                         "the socket path \"%.200s\" must start with a slash and be shorter than "
                         "%zu bytes",
                         path, sizeof address.local.sun_path);
    memcpy(address.local.sun_path, path, strlen(path) + 1);
    snprintf(listener->address, sizeof listener->address, "unix:%s", address.local.sun_path);
    listener->is_unix = true;
    if (lstat(path, &found) == 0) {
        if (!S_ISSOCK(found.st_mode) || local_is_alive(&address))
            return listen_failed(path, EADDRINUSE, error);
        unlink(path);
    }
    listener->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (listener->fd < 0 || bind(listener->fd, &address.any, sizeof address.local) != 0 ||
        chmod(path, 0660) != 0) /* nobody can connect before listen */
        return listen_failed(path, errno, error);
    return DIDI_OK;
}

int http_listener_open(const char *listen_text, http_listener *ret_listener, didi_error *error)
{
    http_listener listener = {.fd = -1};
    int status = strncmp(listen_text, "unix:", 5) == 0
                     ? open_local(listen_text + 5, &listener, error)
                     : open_tcp(listen_text, &listener, error);
    if (status == DIDI_OK && listen(listener.fd, HTTP_BACKLOG) != 0)
        status = listen_failed(listen_text, errno, error);
    if (status != DIDI_OK)
        file_close(listener.fd);
    else
        *ret_listener = listener;
    return status;
}

void http_listener_close(http_listener *listener)
{
    if (listener->fd < 0)
        return;
    if (listener->is_unix)
        unlink(listener->address + strlen("unix:"));
    close(listener->fd);
    listener->fd = -1;
}
