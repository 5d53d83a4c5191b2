/* SPDX-License-Identifier: Apache-2.0 */
/* Jobs at work: the scheduler and the pool that it shares threads by. */
#pragma once

#include "daemon/jobs/pool.h"
#include "daemon/jobs/scheduler.h"
