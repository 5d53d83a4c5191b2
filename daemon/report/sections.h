/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of a report that are read without scripts. */
#pragma once

#include "daemon/report/report.h"

#include <stdio.h>

/* Its title, its main figures, what was asked for. */
void section_summary(FILE *out, const report_parts *parts);
/* A table of tasks: weight, error, bytes. */
void section_tasks(FILE *out, const report_parts *parts);
/* Expected errors of the sizes S, M and L, and a place for the curve. */
void section_sizes(FILE *out, const report_parts *parts);
/* Similarity, ranks and lost layers: places for drawings, and tables that are folded. */
void section_layers(FILE *out, const report_parts *parts);
/* The models that went in and the files that came out, with digests. */
void section_files(FILE *out, const report_parts *parts);
/* The specification, versions, times. */
void section_origin(FILE *out, const report_parts *parts);
