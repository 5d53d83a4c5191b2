/* SPDX-License-Identifier: Apache-2.0 */
/* SIGINT and SIGTERM as a file descriptor, so that waiting and transfers end at once and files are
 * left in a state from which they can be resumed. A window that changes its size ends waiting too,
 * so that what is drawn on it can be drawn anew. */
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

/* True once one of the signals has come. Never blocks. [any] */
bool interrupt_seen(const client_interrupt *interrupt);

/* Fails with CLIENT_INTERRUPTED. */
int interrupt_fail(didi_error *error);

/* Sleeps `milliseconds`, shorter where the window's size changes. Errors: CLIENT_INTERRUPTED when a
 * signal comes before. [any] */
int interrupt_sleep(const client_interrupt *interrupt, int milliseconds, didi_error *error);
