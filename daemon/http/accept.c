/* SPDX-License-Identifier: Apache-2.0 */
/* Accepting: who gets a connection, and who must go for it.
 *
 * An address at its limit closes its own oldest idle or incomplete connection in favour of the new
 * one, or one that stands still while a reply is sent to it. When all connections are in use, the
 * oldest idle one of anybody goes. Where none can go, the reserve takes the new one, for the few
 * routes that must answer always. */
#include "daemon/base/base.h"
#include "daemon/http/connection.h"
#include "src/base/base.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum {
    ACCEPTS_A_TURN = 64,
    STALLED_MILLISECONDS = 1000, /* without a byte taken: may be cut for another one */
};

typedef union peer_name {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    struct sockaddr_un local;
} peer_name;

static void peer_key(const http_listener *listener, const http_connection *peer,
                     char ret_key[HTTP_HOLDER_KEY_BYTES])
{
    if (peer->has_user)
        snprintf(ret_key, HTTP_HOLDER_KEY_BYTES, "%s:%u", listener->is_control ? "control" : "user",
                 (unsigned)peer->user);
    else
        address_owner(peer->address, ret_key);
}

static void peer_describe(int fd, const peer_name *name, http_connection *ret_peer)
{
    struct ucred user;
    socklen_t bytes = sizeof user;
    memcpy(ret_peer->address, "unix", sizeof "unix");
    if (name->any.sa_family == AF_INET) {
        inet_ntop(AF_INET, &name->v4.sin_addr, ret_peer->address, sizeof ret_peer->address);
    } else if (name->any.sa_family == AF_INET6) {
        const struct in6_addr *address = &name->v6.sin6_addr;
        if (IN6_IS_ADDR_V4MAPPED(address))
            inet_ntop(AF_INET, address->s6_addr + 12, ret_peer->address, sizeof ret_peer->address);
        else
            inet_ntop(AF_INET6, address, ret_peer->address, sizeof ret_peer->address);
    } else if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &user, &bytes) == 0) {
        ret_peer->has_user = true;
        ret_peer->user = user.uid;
    }
}

static bool evict(http_connection *connection)
{
    if (connection == NULL)
        return false;
    http_refused(HTTP_REFUSAL_EVICTED);
    http_connection_close(connection);
    return true;
}

static bool evict_own(http_holder *holder)
{
    http_connection *oldest = TAILQ_FIRST(&holder->idle);
    http_connection *stalled = TAILQ_FIRST(&holder->sending);
    if (oldest == NULL && stalled != NULL &&
        clock_monotonic_ms() - stalled->progress_ms >= STALLED_MILLISECONDS)
        oldest = stalled;
    return evict(oldest);
}

/* Makes room, or says that the new one is for the reserve. False: there is no room at all. */
static bool make_room(http *self, http_holder *holder, http_connection *peer)
{
    const http_settings *settings = &self->settings;
    peer->address_is_full =
        holder->connections >= settings->address_connections_max && !evict_own(holder);
    peer->is_reserved =
        peer->address_is_full ||
        (self->connection_count >= settings->connections_max && !evict(TAILQ_FIRST(&self->idle)));
    if (!peer->is_reserved || self->reserved_count < settings->connections_reserved)
        return true;
    http_connection *oldest;
    TAILQ_FOREACH(oldest, &self->reserved, reserve)
    if (oldest->is_idle)
        return evict(oldest);
    return false;
}

static void accept_one(http *self, const http_listener *listener, int fd, const peer_name *name)
{
    http_connection peer = {0};
    char key[HTTP_HOLDER_KEY_BYTES];
    peer_describe(fd, name, &peer);
    peer_key(listener, &peer, key);
    http_holder *holder = http_holders_get(self->holders, key, clock_monotonic_ms());
    if (holder == NULL || !make_room(self, holder, &peer)) {
        http_refused(HTTP_REFUSAL_CONNECTIONS);
        http_holders_put(holder);
        close(fd);
        return;
    }
    http_connection_open(self, listener, fd, holder, &peer);
}

/* Without a descriptor nothing can be accepted, and the newcomer would wake the loop for ever: an
 * idle connection goes for it. Where there is none, a descriptor that is kept for this is given up
 * for a moment, and the newcomer goes. */
static void accept_without_descriptors(http *self, int listening_fd)
{
    http_refused(HTTP_REFUSAL_DESCRIPTORS);
    if (evict(TAILQ_FIRST(&self->idle)))
        return;
    file_close(self->spare_fd);
    file_close(accept4(listening_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK));
    self->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

void http_accept_ready(uv_poll_t *handle, int uv_status, int events)
{
    http *self = handle->data;
    const http_listener *listener = &self->listeners[handle - self->listening];
    (void)uv_status;
    (void)events;
    for (int i = 0; i < ACCEPTS_A_TURN && self->is_listening; i++) {
        peer_name name = {0};
        socklen_t bytes = sizeof name;
        int fd = accept4(listener->fd, &name.any, &bytes, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0) {
            accept_one(self, listener, fd, &name);
            continue;
        }
        int reason = errno;
        if (reason == EMFILE || reason == ENFILE)
            accept_without_descriptors(self, listener->fd);
        else if (reason != ECONNABORTED && reason != EINTR)
            return;
    }
}
