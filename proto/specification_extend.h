/* SPDX-License-Identifier: Apache-2.0 */
/* The field `extend` of a job specification. */
#pragma once

#include "proto/field.h"
#include "proto/specification.h"

/* As field_read and field_write, of the whole field. */
int specification_extend_read(const json_field *field, json_t *value, void *object,
                              const char *pointer, didi_error *error);
json_t *specification_extend_write(const json_field *field, const void *object);
/* True when the job extends none: the field is then not written. */
bool specification_extend_is_absent(const void *object);
void specification_extend_clear(specification_extend *extend);
