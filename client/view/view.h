/* SPDX-License-Identifier: Apache-2.0 */
/* What people read: results, remarks, tables, plots and progress. */
#pragma once

#include "client/view/budget_text.h"
#include "client/view/format.h"
#include "client/view/heat.h"
#include "client/view/output.h"
#include "client/view/plot.h"
#include "client/view/progress.h"
#include "client/view/summary.h"
#include "client/view/table.h"
#include "client/view/terminal.h"
