/* SPDX-License-Identifier: Apache-2.0 */
/* Which matrices are kept whole for being small and sensitive. */
#include "src/work/work.h"
#include "tests/unit/sample_family.h"
#include "tests/unit/sample_summary.h"
#include "tests/unit/support.h"

#include <string.h>

enum { TASKS = 2 };

static family_kind kind_of_embedding(const didi_merge_options *options)
{
    family *all = NULL;
    didi_error error = {0};
    family_kind kind = FAMILY_EXCLUDED;
    sample_must(family_open(options, &all, &error), &error);
    work_keep_sensitive(options, all);
    for (size_t i = 0; i < all->tensor_count; i++)
        if (strcmp(all->tensors[i].name, "embed.weight") == 0)
            kind = all->tensors[i].kind;
        else
            assert_true(strstr(all->tensors[i].name, "weight") == NULL ||
                        all->tensors[i].kind == FAMILY_MATRIX);
    family_close(all);
    return kind;
}

static void sensitive_tensors_are_dense_only_where_that_is_cheap(void **state)
{
    static const char *const low_rank[] = {"embed*"};
    sample_family sample;
    sample_family_create(&sample, support_directory(state), TASKS);
    assert_int_equal(kind_of_embedding(&sample.options), FAMILY_DENSE);
    sample.options.low_rank_tensors = low_rank;
    sample.options.low_rank_tensor_count = 1;
    assert_int_equal(kind_of_embedding(&sample.options), FAMILY_MATRIX);
    sample.options.low_rank_tensor_count = 0;
    sample.options.budget = 0.15; /* its copies would eat more than half of this */
    assert_int_equal(kind_of_embedding(&sample.options), FAMILY_MATRIX);
    sample.options.budget = 1.4;
    sample.options.dense = DIDI_DENSE_MEAN;
    assert_int_equal(kind_of_embedding(&sample.options), FAMILY_MATRIX);
    sample_family_close(&sample);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        support_test(sensitive_tensors_are_dense_only_where_that_is_cheap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
