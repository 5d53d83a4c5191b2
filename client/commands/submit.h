/* SPDX-License-Identifier: Apache-2.0 */
/* The commands of command_submit.c. */
#pragma once

#include "client/commands/command.h"

#include <jansson.h>

/* Submits what POST /v1/jobs takes, prints the job's id, waits with --wait; or prints its plan.
 * Errors: those of the service, CLIENT_USAGE (a bad key), CLIENT_JOB_FAILED. */
int command_submit_send(const command_context *context, const json_t *specification,
                        didi_error *error);
int command_submit_plan(const command_context *context, const json_t *specification,
                        didi_error *error);

extern const client_command command_submit;
extern const client_command command_plan;
