/* SPDX-License-Identifier: Apache-2.0 */
/* The rows of the method's table: what each does, what is taken up again, and what is told of it.
 */
#pragma once

#include "src/methods/didi/didi_method.h"

/* ---- layers.c: the rows that work on one layer ---- */

int didi_decompose_layer(void *self, size_t index, stored *out, didi_error *error);
int didi_pursue_layer(void *self, size_t index, stored *out, didi_error *error);
int didi_refine_layer(void *self, size_t index, stored *out, didi_error *error);
/* The weights of a layer whose energies are known. */
void didi_set_weights(didi *self, size_t index);

/* ---- recall.c: what an earlier attempt, or an earlier merge, finished ---- */

bool didi_recall_decomposed(void *self, size_t index);
bool didi_recall_pursued(void *self, size_t index);
bool didi_recall_refined(void *self, size_t index);
/* What an earlier merge pursued; DIDI_NOT_FOUND where there is none. */
int didi_recall_warm(didi *self, size_t index, didi_error *error);

/* ---- schedule.c: rows that look at all layers ---- */

int didi_schedule(void *self, didi_error *error);
int didi_final_ranks(void *self, didi_error *error);

/* ---- report.c: telemetry and the manifest's sections ---- */

/* The points of a layer that was pursued or refined: sums over the layers done so far. */
void didi_report_pursued(void *self);
void didi_report_refined(void *self);
int didi_describe(const void *self, const figures *of, json_t *manifest, didi_error *error);

/* ---- outlook.c: the section `frontier` ---- */

bool didi_foresees(const void *self, size_t stage);
int didi_foresee(const void *self, const figures *of, json_t *document, didi_error *error);
