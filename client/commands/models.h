/* SPDX-License-Identifier: Apache-2.0 */
/* The commands of command_models.c. */
#pragma once

#include "client/commands/command.h"

extern const client_command command_model_list;
extern const client_command command_model_show;
extern const client_command command_model_rescan;
