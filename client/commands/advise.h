/* SPDX-License-Identifier: Apache-2.0 */
/* What to do about the error that ended a command, where the command itself did not say. */
#pragma once

#include "client/commands/command.h"

#include <jansson.h>

/* By the server's last problem or by how it could not be reached. Adds to the error the job that
 * may have been meant where there is none of this id. */
void advise(const command_context *context, int status, didi_error *error);

/* By a problem's type and place alone: what a job tells of its failure. */
void advise_type(const command_context *context, const char *type, const char *pointer);

/* After a refused request: adds to the error the name of a model that may have been meant by the
 * one at the problem's place in `request`, or by `name` where that is not NULL. Asks the server for
 * its models. */
void advise_model(const command_context *context, const json_t *request, const char *name,
                  didi_error *error);
