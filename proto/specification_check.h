/* SPDX-License-Identifier: Apache-2.0 */
/* What must hold between the fields of a specification. */
#pragma once

#include "proto/specification.h"

/* No task name and no model twice, no task that is the base. Errors: DIDI_INVALID with the later
 * one's pointer as subject, DIDI_NO_MEMORY. */
int specification_check(const specification *self, didi_error *error);
