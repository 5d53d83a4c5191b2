/* SPDX-License-Identifier: Apache-2.0 */
/* The commands of command_follow.c. */
#pragma once

#include "client/commands/command.h"

extern const client_command command_watch;
extern const client_command command_wait;
extern const client_command command_events;
