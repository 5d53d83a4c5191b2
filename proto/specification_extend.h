/* SPDX-License-Identifier: Apache-2.0 */
/* What ties a specification to others, and its fields to each other. */
#pragma once

#include "proto/field.h"
#include "proto/specification.h"

/* No task name and no model twice, no task that is the base. Errors: DIDI_INVALID with the later
 * one's pointer as subject, DIDI_NO_MEMORY. */
int specification_check(const specification *self, didi_error *error);

/* As field_read and field_write, of the whole field. */
int specification_extend_read(const json_field *field, json_t *value, void *object,
                              const char *pointer, didi_error *error);
json_t *specification_extend_write(const json_field *field, const void *object);
/* True when the job extends none: the field is then not written. */
bool specification_extend_is_absent(const void *object);
void specification_extend_clear(specification_extend *extend);
