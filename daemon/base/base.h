/* SPDX-License-Identifier: Apache-2.0 */
/* What the daemon stands on: clock, settings, options, ids, log, service manager, state directory.
 */
#pragma once

#include "daemon/base/clock.h"
#include "daemon/base/config.h"
#include "daemon/base/id.h"
#include "daemon/base/log.h"
#include "daemon/base/options.h"
#include "daemon/base/service_manager.h"
#include "daemon/base/state_dir.h"
