/* SPDX-License-Identifier: Apache-2.0 */
/* The commands of command_submit.c. */
#pragma once

#include "client/command.h"

extern const client_command command_submit;
extern const client_command command_plan;
