/* SPDX-License-Identifier: Apache-2.0 */
/* Clock, settings, ids, log, service manager and state directory: what the daemon stands on. */
#pragma once

#include "daemon/base/clock.h"
#include "daemon/base/config.h"
#include "daemon/base/id.h"
#include "daemon/base/log.h"
#include "daemon/base/service_manager.h"
#include "daemon/base/state_dir.h"
