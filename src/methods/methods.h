/* SPDX-License-Identifier: Apache-2.0 */
/* Every method: a line here, a line in the table of methods.c, a file of its own. */
#pragma once

#include "src/methods/method.h"

extern const didi_method didi_pursuit_method; /* didi/didi_method.c */
extern const didi_method average_method;
extern const didi_method task_arithmetic_method;
extern const didi_method regmean_method, fisher_method, adamerging_method; /* need_data.c */
