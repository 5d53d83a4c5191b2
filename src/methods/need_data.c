/* SPDX-License-Identifier: Apache-2.0 */
/* Methods that people ask for and that cannot work from checkpoints alone: each is refused with
 * what it lacks. */
#include "src/methods/methods.h"

const didi_method regmean_method = {
    .name = "regmean",
    .needs = "the Gram matrices of each layer's inputs, from running every fine-tune on its own "
             "data; nothing but checkpoints can be given here",
};

const didi_method fisher_method = {
    .name = "fisher",
    .needs = "the diagonal of each fine-tune's Fisher information, from gradients on its own data; "
             "nothing but checkpoints can be given here",
};

const didi_method adamerging_method = {
    .name = "adamerging",
    .needs = "unlabelled test inputs of every task, whose predictions it sharpens; nothing but "
             "checkpoints can be given here",
};
