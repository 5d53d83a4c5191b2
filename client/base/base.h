/* SPDX-License-Identifier: Apache-2.0 */
/* What every part of the client stands on: exit codes, the command line, settings, and reading
 * what a server sent. */
#pragma once

#include "client/base/arguments.h"
#include "client/base/exit_code.h"
#include "client/base/record.h"
#include "client/base/settings.h"
