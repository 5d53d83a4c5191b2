/* SPDX-License-Identifier: Apache-2.0 */
/* Ranks and widths under a budget: pure functions of spectra. */
#pragma once

#include "src/budget/learned.h"
#include "src/budget/ranks.h"
#include "src/budget/ranks_and_widths.h"
