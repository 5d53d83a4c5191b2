/* SPDX-License-Identifier: Apache-2.0 */
/* The format of published packages: writing and reading. */
#pragma once

#include "src/package/delta_codec.h"
#include "src/package/kept.h"
#include "src/package/layout.h"
#include "src/package/packed.h"
#include "src/package/picks.h"
#include "src/package/proxies.h"
#include "src/package/reader.h"
#include "src/package/side_files.h"
#include "src/package/widths.h"
