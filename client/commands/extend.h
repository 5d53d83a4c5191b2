/* SPDX-License-Identifier: Apache-2.0 */
/* The command of command_extend.c. */
#pragma once

#include "client/commands/command.h"

extern const client_command command_extend;
