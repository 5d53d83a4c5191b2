/* SPDX-License-Identifier: Apache-2.0 */
/* The commands of command_pull.c. */
#pragma once

#include "client/commands/command.h"

extern const client_command command_pull;
