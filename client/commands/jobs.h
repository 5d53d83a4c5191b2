/* SPDX-License-Identifier: Apache-2.0 */
/* The commands of command_jobs.c. */
#pragma once

#include "client/commands/command.h"

extern const client_command command_jobs;
extern const client_command command_show;
extern const client_command command_cancel;
extern const client_command command_retry;
extern const client_command command_rm;
