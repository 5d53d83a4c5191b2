/* SPDX-License-Identifier: Apache-2.0 */
/* The daemon's life: everything started in order, and stopped in the opposite one. */
#pragma once

#include "daemon/base/base.h"

/* Serves until SIGTERM or SIGINT. Returns the process's exit code; errors go to the log. */
int serve(const config *settings);
