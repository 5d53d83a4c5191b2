/* SPDX-License-Identifier: Apache-2.0 */
/* Options of a method: one table that parses them, checks them and tells people of them. */
#pragma once

#include "src/base/base.h"

#include <stdbool.h>
#include <stddef.h>

typedef enum method_option_kind {
    METHOD_NUMBER,  /* double */
    METHOD_INTEGER, /* int64_t */
    METHOD_COUNT,   /* size_t */
    METHOD_FLAG,    /* bool */
    METHOD_WORD,    /* an enumeration, in the order of `words` */
} method_option_kind;

typedef struct method_option {
    const char *name;
    method_option_kind kind;
    size_t offset;   /* of the member */
    double standard; /* when none is given */
    double lowest, highest;
    bool above_lowest;        /* `lowest` itself is out */
    const char *const *words; /* ends with NULL */
    const char *help;         /* one line, with the unit */
} method_option;

/* Fills `self` from JSON text of an object, or with the defaults where it is NULL. Errors:
 * DIDI_INVALID with the subject "/method_options/NAME": an option that `method` does not have, of
 * another type, out of range; DIDI_FORMAT. */
int method_options_read(const method_option *options, const char *method, const char *text,
                        void *self, didi_error *error);

/* Errors: DIDI_INVALID with subject `field` unless low <= value <= high (low < value with open_low)
 * and value is finite. */
int method_check_number(const char *field, double value, double low, bool open_low, double high,
                        didi_error *error);

/* The member of `self` that an option is kept in; of a choice its index. */
double method_option_value(const method_option *option, const void *self);
