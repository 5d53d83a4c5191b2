/* SPDX-License-Identifier: Apache-2.0 */
/* Defaults of the job specification that src/base/words.h has not. */
#pragma once

#define SPECIFICATION_DEFAULT_METHOD "didi"
#define SPECIFICATION_DEFAULT_TASK_WEIGHT 1.0
#define SPECIFICATION_DEFAULT_WEIGHTING_LEARNED                                                    \
    DIDI_WEIGHTING_NONE /* differentiable: the paper's */
#define SPECIFICATION_DEFAULT_OUTPUT_DTYPE DIDI_PRECISION_AUTO
/* Of what cannot allocate widths: methods without a budget, ranks that are uniform or learned. */
#define SPECIFICATION_DEFAULT_OUTPUT_DTYPE_PLAIN DIDI_PRECISION_BF16
#define SPECIFICATION_DEFAULT_SEED 0
#define SPECIFICATION_DEFAULT_PRIORITY 0
