/* SPDX-License-Identifier: Apache-2.0 */
/* Requests to the daemon that holds a state directory, over its socket there. */
#pragma once

#include "src/base/base.h"

#include <jansson.h>

/* The answer's document in *ret_document, NULL after 204; `body` may be NULL. Errors:
 * DIDI_NOT_FOUND (nobody answers on the socket), DIDI_CONFLICT (the daemon refused; the message is
 * its own), DIDI_IO, DIDI_NO_MEMORY. Caller decrefs. */
int control_exchange(int state_fd, const char *method, const char *target, const char *body,
                     json_t **ret_document, didi_error *error);
