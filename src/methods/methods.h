/* SPDX-License-Identifier: Apache-2.0 */
/* Every method: a line here, a line in the table of methods.c, a file of its own. */
#pragma once

#include "src/methods/method.h"

extern const didi_method didi_pursuit_method; /* didi/didi_method.c */
extern const didi_method average_method;
extern const didi_method task_arithmetic_method;
extern const didi_method ties_method;
extern const didi_method tsv_m_method;
extern const didi_method iso_c_method;
extern const didi_method iso_cts_method;
extern const didi_method wudi_method;
extern const didi_method dare_method;
extern const didi_method pcb_method;
extern const didi_method knots_method;
extern const didi_method cat_method;
extern const didi_method emr_method, tall_ties_method, mmer_method, consensus_method;
extern const didi_method bitdelta_method, free_method;
extern const didi_method tsv_c_method, twin_method, smile_method, wemoe_method, cart_method;
extern const didi_method svd_lora_method, individuals_method;
extern const didi_method regmean_method, fisher_method, adamerging_method; /* need_data.c */
