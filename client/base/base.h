/* SPDX-License-Identifier: Apache-2.0 */
/* What every part of the client stands on: exit codes, the command line, settings, reading what a
 * server sent, and what to say to mistakes. */
#pragma once

#include "client/base/advice.h"
#include "client/base/arguments.h"
#include "client/base/contexts.h"
#include "client/base/exit_code.h"
#include "client/base/record.h"
#include "client/base/settings.h"
