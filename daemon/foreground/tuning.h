/* SPDX-License-Identifier: Apache-2.0 */
/* An option of a method tried at several values: which there are, what each scored, which is best.
 */
#pragma once

#include "proto/proto.h"
#include "src/base/base.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

enum { TUNING_VALUES_MAX = 64, TUNING_TEXT_BYTES = 256 };

typedef struct tuning tuning;

/* Reads "OPTION=V1,V2,...": an option of a method, and JSON values or words. Errors: DIDI_INVALID,
 * DIDI_NO_MEMORY. */
int tuning_read(const char *text, tuning **ret_tuning, didi_error *error);
/* NULL is fine. */
void tuning_free(tuning *self);

size_t tuning_count(const tuning *self);

/* Sets the option to a value, for a merge or to see whether it can be one. Errors: DIDI_NO_MEMORY.
 */
int tuning_apply(const tuning *self, size_t index, specification *wanted, didi_error *error);

/* "OPTION=VALUE", for people. */
void tuning_name(const tuning *self, size_t index, char ret_text[TUNING_TEXT_BYTES]);

/* Notes what the merge at a value scored (scoring_run); a reference is taken. True when it is
 * better than all before: by the mean share kept, or where there is none by the mean score. */
bool tuning_note(tuning *self, size_t index, json_t *scores);

/* After one was noted: which is best, and its scores, which live as long as the tuning. */
size_t tuning_best(const tuning *self);
json_t *tuning_scores(const tuning *self);

/* {"option", "values": [{"value", "score", "kept"}], "chosen", "split"}, a new reference; NULL when
 * out of memory. */
json_t *tuning_json(const tuning *self, const char *split);
