/* SPDX-License-Identifier: Apache-2.0 */
/* What ties a specification to others, and its fields to each other. */
#pragma once

#include "proto/field.h"
#include "proto/specification.h"

/* No task name and no model twice, no task that is the base. Errors: DIDI_INVALID with the later
 * one's pointer as subject, DIDI_NO_MEMORY. */
int specification_check(const specification *self, didi_error *error);

/* The fields of specification.extend. */
extern const json_field specification_extend_fields[];
void specification_extend_clear(specification_extend *extend);
