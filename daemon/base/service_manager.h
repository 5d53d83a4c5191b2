/* SPDX-License-Identifier: Apache-2.0 */
/* Tells a service manager how things stand: the datagrams of sd_notify(3), without its library,
 * which would bring five others for one sendto(2). */
#pragma once

#include <stdint.h>

/* Sends `state` ("READY=1", ...) to $NOTIFY_SOCKET; does nothing when there is none. Thread-safe.
 */
void service_manager_tell(const char *state);

/* Milliseconds between two pings the manager wants ($WATCHDOG_USEC for this process), 0 for none.
 */
uint64_t service_manager_watchdog_ms(void);
