/* SPDX-License-Identifier: Apache-2.0 */
/* What the server makes, into a file that was not there: whole and checked, or not at all. */
#pragma once

#include "client/commands/command.h"
#include "src/base/base.h"

/* GET of `target` into the file `name`, by way of `name`.part. The server may take `extra_seconds`
 * before the first byte, and must name the digest of what it sends. Errors: CLIENT_FAILURE (there
 * is such a file already; it cannot be written; what came is not what was sent), those of
 * service.h. */
int new_file_fetch(const command_context *context, const char *target, const char *name,
                   int extra_seconds, didi_error *error);
