/* SPDX-License-Identifier: Apache-2.0 */
/* The commands of command_results.c. */
#pragma once

#include "client/commands/command.h"

extern const client_command command_ranks;
extern const client_command command_frontier;
extern const client_command command_similarity;
