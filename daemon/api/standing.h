/* SPDX-License-Identifier: Apache-2.0 */
/* What rows of a bake-off say: what each keeps of the fine-tunes, and which are ahead of didi. */
#pragma once

#include "daemon/store/store.h"

#include <jansson.h>

/* A member's scores: {TASK: {"score", "kept", "cosine", "length", "seconds", "error"}}, `kept` null
 * until judged. NULL when out of memory. */
json_t *standing_scores(const store_score *scores, size_t count, uint64_t member);

/* Sets "kept" (mean over tasks) and "worst" ({"task", "kept"}) of all rows: a score relative to the
 * one of method individuals; null where one of the two lacks. And "cosine" and
 * "length", means over tasks. */
void standing_judge(json_t *rows, bool scored);

/* {"measure", "note", "ahead": [{"label", "what", "by"}]} of judged rows: a method is ahead where
 * it keeps more than didi does at its bytes or fewer. */
json_t *standing_verdict(const json_t *rows, bool scored);
