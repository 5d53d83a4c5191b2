/* SPDX-License-Identifier: Apache-2.0 */
/* SIGINT and SIGTERM as a file descriptor, so that waiting and transfers end at once and files are
 * left in a state from which they can be resumed. */
#pragma once

#include "src/base/base.h"

#include <stdbool.h>

typedef struct client_interrupt client_interrupt;

/* Blocks both signals and opens their descriptor. Caller closes with interrupt_close.
 * Errors: CLIENT_FAILURE. */
int interrupt_open(client_interrupt **ret_interrupt, didi_error *error);
void interrupt_close(client_interrupt *interrupt);

/* The descriptor to poll for reading; stays the object's. */
int interrupt_descriptor(const client_interrupt *interrupt);

/* True once one of the signals has come. Never blocks. */
bool interrupt_seen(client_interrupt *interrupt);

/* Fails with CLIENT_INTERRUPTED. */
int interrupt_fail(didi_error *error);

/* Sleeps `milliseconds`. Errors: CLIENT_INTERRUPTED when a signal comes before. */
int interrupt_sleep(client_interrupt *interrupt, int milliseconds, didi_error *error);
