/* SPDX-License-Identifier: Apache-2.0 */
/* Opening of the listening sockets. */
#include "daemon/http/listen.h"

#include "daemon/http/target.h"
#include "src/base/base.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum {
    HTTP_BACKLOG = 1024, /* connections the kernel holds */
    INHERITED_FIRST = 3, /* descriptor of sd_listen_fds(3) */
};

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
                     "127.0.0.1:7878, [::1]:7878, or unix:/PATH; any address takes TLS or tokens",
                     place);
}

static int listen_failed(const char *place, int errno_value, didi_error *error)
{
    if (errno_value == EADDRINUSE)
        return didi_fail(error, DIDI_CONFLICT, place,
                         "cannot listen on %s: the address is in use; --listen names another",
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
    size_t bytes = (size_t)(colon - place);
    memcpy(host, place, bytes);
    if (bytes > 2 && host[0] == '[' && host[bytes - 1] == ']') {
        char numeric[64] = "";
        memcpy(numeric, host + 1, bytes - 2);
        address->v6 =
            (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
        *ret_bytes = sizeof address->v6;
        if (inet_pton(AF_INET6, numeric, &address->v6.sin6_addr) != 1)
            return false;
    } else {
        const char *numeric = strcmp(host, "localhost") == 0 ? "127.0.0.1" : host;
        address->v4 =
            (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
        if (inet_pton(AF_INET, numeric, &address->v4.sin_addr) != 1)
            return false;
        *ret_bytes = sizeof address->v4;
        memmove(host, numeric, strlen(numeric) + 1);
    }
    memcpy(listener->host, host, sizeof host);
    return true;
}

static bool is_loopback(const socket_address *address)
{
    if (address->any.sa_family == AF_INET6)
        return IN6_IS_ADDR_LOOPBACK(&address->v6.sin6_addr);
    return address->any.sa_family == AF_INET &&
           ntohl(address->v4.sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
}

static void name_tcp(http_listener *listener, const socket_address *address)
{
    listener->port =
        ntohs(address->any.sa_family == AF_INET6 ? address->v6.sin6_port : address->v4.sin_port);
    snprintf(listener->address, sizeof listener->address, "%s%s:%u",
             listener->tls ? "https://" : "", listener->host, listener->port);
}

static int open_tcp(const char *place, const http_listen_rules *rules, http_listener *listener,
                    didi_error *error)
{
    const char *asked = place;
    socket_address address = {0};
    socklen_t bytes = 0;
    int yes = 1;
    bool plain = strncmp(place, "http://", 7) == 0;
    bool secure = strncmp(place, "https://", 8) == 0;
    listener->tls = secure || (rules->tls && !plain);
    place += plain ? 7 : (secure ? 8 : 0);
    if (listener->tls && !rules->has_tls)
        return didi_fail(error, DIDI_INVALID, "listen",
                         "listen: %.200s needs tls_certificate and tls_key", asked);
    if (!parse_tcp(place, listener, &address, &bytes) ||
        (!is_loopback(&address) && !listener->tls && !rules->any_address))
        return listen_refuse(asked, error);
    listener->fd = socket(address.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (listener->fd < 0 ||
        setsockopt(listener->fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) != 0 ||
        bind(listener->fd, &address.any, bytes) != 0 ||
        getsockname(listener->fd, &address.any, &bytes) != 0)
        return listen_failed(place, errno, error);
    name_tcp(listener, &address);
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

static int open_local(const char *path, const http_listen_rules *rules, http_listener *listener,
                      didi_error *error)
{
    const mode_t mode = rules->control ? 0600 : 0660;
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
    listener->is_control = rules->control;
    if (lstat(path, &found) == 0) {
        if (!S_ISSOCK(found.st_mode) || local_is_alive(&address))
            return listen_failed(path, EADDRINUSE, error);
        unlink(path);
    }
    listener->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (listener->fd < 0 || bind(listener->fd, &address.any, sizeof address.local) != 0 ||
        chmod(path, mode) != 0) /* nobody can connect before listen */
        return listen_failed(path, errno, error);
    return DIDI_OK;
}

/* A socket that the service manager opened: who may listen where is its configuration's choice, but
 * plain text beyond loopback is refused here too. */
static int open_inherited(int fd, const http_listen_rules *rules, http_listener *listener,
                          didi_error *error)
{
    socket_address address = {0};
    socklen_t bytes = sizeof address;
    char text[INET6_ADDRSTRLEN] = "";
    listener->fd = fd;
    listener->is_inherited = true;
    if (getsockname(fd, &address.any, &bytes) != 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) != 0 ||
        fcntl(fd, F_SETFL, O_NONBLOCK) != 0)
        return listen_failed("systemd", errno, error);
    listener->is_unix = address.any.sa_family == AF_UNIX;
    if (listener->is_unix) {
        snprintf(listener->address, sizeof listener->address, "unix:%s", address.local.sun_path);
        return DIDI_OK;
    }
    listener->tls = rules->tls;
    if (!is_loopback(&address) && !listener->tls && !rules->any_address)
        return listen_refuse("systemd", error);
    bool is_v6 = address.any.sa_family == AF_INET6;
    const void *number = is_v6 ? (const void *)&address.v6.sin6_addr : &address.v4.sin_addr;
    inet_ntop(address.any.sa_family, number, text, sizeof text);
    snprintf(listener->host, sizeof listener->host, is_v6 ? "[%s]" : "%s", text);
    name_tcp(listener, &address);
    return DIDI_OK;
}

/* How many the service manager handed to this process. */
static size_t inherited_count(void)
{
    const char *process = getenv("LISTEN_PID");
    const char *count = getenv("LISTEN_FDS");
    long long number = 0;
    if (process == NULL || count == NULL || !http_number_parse(process, 1, INT32_MAX, &number) ||
        number != getpid() || !http_number_parse(count, 0, HTTP_LISTENERS_MAX, &number))
        return 0;
    return (size_t)number;
}

static int listeners_add(const char *place, const http_listen_rules *rules,
                         http_listener *listeners, size_t *count, didi_error *error)
{
    bool inherits = strcmp(place, "systemd") == 0;
    size_t many = inherits ? inherited_count() : 1;
    int status = DIDI_OK;
    if (many == 0)
        return didi_fail(error, DIDI_INVALID, "listen",
                         "listen: the service manager handed over no sockets");
    if (many > HTTP_LISTENERS_MAX - *count)
        return didi_fail(error, DIDI_INVALID, "listen", "listen: more than %d sockets",
                         HTTP_LISTENERS_MAX);
    for (size_t i = 0; i < many && status == DIDI_OK; i++) {
        http_listener *listener = &listeners[(*count)++];
        *listener = (http_listener){.fd = -1};
        if (inherits)
            status = open_inherited(INHERITED_FIRST + (int)i, rules, listener, error);
        else if (strncmp(place, "unix:", 5) == 0)
            status = open_local(place + 5, rules, listener, error);
        else
            status = open_tcp(place, rules, listener, error);
        if (status == DIDI_OK && !inherits && listen(listener->fd, HTTP_BACKLOG) != 0)
            status = listen_failed(place, errno, error);
        if (status != DIDI_OK && !inherits) {
            file_close(listener->fd); /* the file of another one's socket stays */
            listener->fd = -1;
        }
    }
    return status;
}

int http_listeners_open(const char *places, const http_listen_rules *rules,
                        http_listener ret_listeners[HTTP_LISTENERS_MAX], size_t *ret_count,
                        didi_error *error)
{
    char *copy = memory_string(places);
    char *rest = copy;
    size_t count = 0;
    int status = copy == NULL ? didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory") : DIDI_OK;
    while (status == DIDI_OK && rest != NULL) {
        char *place = strsep(&rest, ",");
        status = listeners_add(text_trim(place), rules, ret_listeners, &count, error);
    }
    for (size_t i = 0; i < count && status != DIDI_OK; i++)
        http_listener_close(&ret_listeners[i]);
    *ret_count = status == DIDI_OK ? count : 0;
    free(copy);
    return status;
}

void http_listener_close(http_listener *listener)
{
    if (listener->fd < 0)
        return;
    if (listener->is_unix && !listener->is_inherited)
        unlink(listener->address + strlen("unix:"));
    close(listener->fd);
    listener->fd = -1;
}
