/* SPDX-License-Identifier: Apache-2.0 */
/* Errors, memory, files, text and threads: what everything else stands on. */
#pragma once

#include "src/base/error.h"
#include "src/base/fault.h"
#include "src/base/file.h"
#include "src/base/json_load.h"
#include "src/base/json_scan.h"
#include "src/base/memory.h"
#include "src/base/nearest.h"
#include "src/base/parallel.h"
#include "src/base/spill.h"
#include "src/base/text.h"
#include "src/base/words.h"
