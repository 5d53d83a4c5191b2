/* SPDX-License-Identifier: Apache-2.0 */
/* Jobs at work: the scheduler, the pool that it shares threads by, and exports. */
#pragma once

#include "daemon/jobs/bakeoff.h"
#include "daemon/jobs/export.h"
#include "daemon/jobs/judge.h"
#include "daemon/jobs/pool.h"
#include "daemon/jobs/scheduler.h"
