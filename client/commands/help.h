/* SPDX-License-Identifier: Apache-2.0 */
/* Help texts, made from the tables of commands and options. */
#pragma once

#include "client/commands/command.h"

#include <stdio.h>

void help_overview(FILE *stream);
void help_command(FILE *stream, const client_command *command);
