/* SPDX-License-Identifier: Apache-2.0 */
/* Models on disk: where they lie, which there are, and a merge opened from a specification. */
#pragma once

#include "daemon/models/fits.h"
#include "daemon/models/inputs.h"
#include "daemon/models/registry.h"
#include "daemon/models/roots.h"
