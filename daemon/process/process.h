/* SPDX-License-Identifier: Apache-2.0 */
/* Programs of others that are run and waited for: an operator's command as words, a process with
 * its streams, and what it prints, how long and how much it takes until all of it is gone. */
#pragma once

#include "daemon/process/child.h"
#include "daemon/process/command.h"
#include "daemon/process/watch.h"
