/* SPDX-License-Identifier: Apache-2.0 */
/* The commands of command_about.c. */
#pragma once

#include "client/commands/command.h"

extern const client_command command_version;
extern const client_command command_completion;
