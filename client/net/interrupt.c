/* SPDX-License-Identifier: Apache-2.0 */
/* SIGINT and SIGTERM as a file descriptor; SIGWINCH as what ends a poll early.
 *
 * The signal is never read off the descriptor, so that all threads see it. */
#include "client/net/interrupt.h"

#include "client/base/base.h"
#include "src/base/base.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

struct client_interrupt {
    int fd;
};

/* A signal that is not caught would end no poll. */
static void window_changed(int signal)
{
    (void)signal;
}

int interrupt_open(client_interrupt **ret_interrupt, didi_error *error)
{
    client_interrupt *self = memory_zeroed(1, sizeof *self);
    if (self == NULL)
        return client_fail_memory(error);
    const struct sigaction changed = {.sa_handler = window_changed, .sa_flags = SA_RESTART};
    (void)sigaction(SIGWINCH, &changed, NULL);
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    self->fd = -1;
    if (sigprocmask(SIG_BLOCK, &signals, NULL) == 0)
        self->fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
    if (self->fd < 0) {
        int saved_errno = errno;
        interrupt_close(self);
        return didi_fail(error, CLIENT_FAILURE, NULL, "cannot watch for signals: %s",
                         strerror(saved_errno));
    }
    *ret_interrupt = self;
    return CLIENT_OK;
}

void interrupt_close(client_interrupt *interrupt)
{
    if (interrupt == NULL)
        return;
    file_close(interrupt->fd);
    free(interrupt);
}

int interrupt_descriptor(const client_interrupt *interrupt)
{
    return interrupt->fd;
}

bool interrupt_seen(const client_interrupt *interrupt)
{
    struct pollfd descriptor = {.fd = interrupt->fd, .events = POLLIN};
    return poll(&descriptor, 1, 0) == 1;
}

int interrupt_fail(didi_error *error)
{
    return didi_fail(error, CLIENT_INTERRUPTED, NULL, "interrupted");
}

int interrupt_sleep(const client_interrupt *interrupt, int milliseconds, didi_error *error)
{
    struct pollfd descriptor = {.fd = interrupt->fd, .events = POLLIN};
    (void)poll(&descriptor, 1, milliseconds);
    return interrupt_seen(interrupt) ? interrupt_fail(error) : CLIENT_OK;
}
