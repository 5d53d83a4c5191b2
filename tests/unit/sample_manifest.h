/* SPDX-License-Identifier: Apache-2.0 */
/* What the manifest of a test's package says. */
#pragma once

#include "tests/unit/sample_family.h"

#include <jansson.h>

/* The caller's to release. */
json_t *sample_manifest(const sample_family *sample, const char *package);

/* The number `name` of a section. */
double sample_number(const json_t *manifest, const char *section, const char *name);
