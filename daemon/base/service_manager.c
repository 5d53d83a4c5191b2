/* SPDX-License-Identifier: Apache-2.0 */
/* The service manager's notification socket. Short because it stands for a whole library. */
#include "daemon/base/service_manager.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

void service_manager_tell(const char *state)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (path == NULL || (path[0] != '/' && path[0] != '@') ||
        strlen(path) >= sizeof address.sun_path)
        return;
    size_t length = strlen(path);
    memcpy(address.sun_path, path, length);
    if (path[0] == '@')
        address.sun_path[0] = '\0'; /* the abstract namespace */
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    (void)sendto(fd, state, strlen(state), MSG_NOSIGNAL, (const struct sockaddr *)&address,
                 (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length));
    close(fd);
}

uint64_t service_manager_watchdog_ms(void)
{
    const char *text = getenv("WATCHDOG_USEC");
    const char *owner = getenv("WATCHDOG_PID");
    if (text == NULL || (owner != NULL && strtoll(owner, NULL, 10) != getpid()))
        return 0;
    return strtoull(text, NULL, 10) / 2000; /* twice as often as asked */
}
