/* SPDX-License-Identifier: Apache-2.0 */
/* What the daemon stands on: addresses, clock, settings, options, ids, log, secrets, service
 * manager, state directory, traces.
 */
#pragma once

#include "daemon/base/address.h"
#include "daemon/base/address_space.h"
#include "daemon/base/clock.h"
#include "daemon/base/config.h"
#include "daemon/base/failures.h"
#include "daemon/base/id.h"
#include "daemon/base/log.h"
#include "daemon/base/metrics.h"
#include "daemon/base/options.h"
#include "daemon/base/secret.h"
#include "daemon/base/service_manager.h"
#include "daemon/base/state_dir.h"
#include "daemon/base/trace.h"
