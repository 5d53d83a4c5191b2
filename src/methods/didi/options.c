/* SPDX-License-Identifier: Apache-2.0 */
/* Options of this method: its table, and what it asks of a budget. */
#include "src/methods/didi/didi_method.h"

#include "src/base/base.h"

#include <math.h>

#define WORD(id, name) name,
#define FIELD_WORDS(member, field, standard, table, help)                                          \
    static const char *const member##_words[] = {table(WORD) NULL};                                \
    enum { member##_last = sizeof member##_words / sizeof *member##_words - 2 };
DIDI_CHOICES(FIELD_WORDS)
#undef FIELD_WORDS
#undef WORD

const method_option didi_fields[] = {
#define FIELD_CHOICE(member, field, standard_word, table, told)                                    \
    {.name = (field),                                                                              \
     .kind = METHOD_WORD,                                                                          \
     .offset = offsetof(didi_merge_options, member),                                               \
     .standard = (standard_word),                                                                  \
     .highest = member##_last,                                                                     \
     .words = member##_words,                                                                      \
     .help = (told)},
    DIDI_CHOICES(FIELD_CHOICE)
#undef FIELD_CHOICE
#define FIELD_ROW(member, type, field, is, low, above, high, told)                                 \
    {.name = (field),                                                                              \
     .kind = (type),                                                                               \
     .offset = offsetof(didi_merge_options, member),                                               \
     .standard = (is),                                                                             \
     .lowest = (low),                                                                              \
     .above_lowest = (above),                                                                      \
     .highest = (high),                                                                            \
     .help = (told)},
#define FIELD_NUMBER(member, key, ...) FIELD_ROW(member, METHOD_NUMBER, __VA_ARGS__)
#define FIELD_COUNT(member, key, ...) FIELD_ROW(member, METHOD_COUNT, __VA_ARGS__)
        DIDI_RANK_NUMBERS(FIELD_NUMBER) DIDI_RANK_COUNTS(FIELD_COUNT)
            DIDI_REFINE_COUNTS(FIELD_COUNT) DIDI_REFINE_NUMBERS(FIELD_NUMBER)
#undef FIELD_NUMBER
#undef FIELD_COUNT
#undef FIELD_ROW
                {.name = NULL},
};

int didi_check_options(const didi_merge_options *options, didi_error *error)
{
    didi_allocator allocator = options->allocator;
    bool greedy = allocator != DIDI_ALLOCATOR_UNIFORM && allocator != DIDI_ALLOCATOR_DIFFERENTIABLE;
    double floor = precision_floor(options->precision);
    if (!greedy && options->precision == DIDI_PRECISION_AUTO)
        return didi_fail(error, DIDI_INVALID, "/output/dtype",
                         "output dtype auto needs allocator pursuit, joint or exact");
    switch (options->budget_unit) {
    case DIDI_BUDGET_PARAMETERS:
        return method_check_number("/budget", options->budget, 0, true, 1000, error);
    case DIDI_BUDGET_BYTES:
        return method_check_number("/budget/bytes", options->budget, 1, false, 1e18, error);
    case DIDI_BUDGET_BYTES_RATIO:
        return method_check_number("/budget/bytes_ratio", options->budget, 0, true, 1000, error);
    default:
        break;
    }
    if (!greedy)
        return didi_fail(error, DIDI_INVALID, "/budget/max_error",
                         "max_error needs allocator pursuit, joint or exact");
    int status = method_check_number("/budget/max_error", options->budget, 0, true, 1, error);
    if (status == DIDI_OK && options->budget < floor * (1 - 1e-9))
        status = didi_fail(error, DIDI_BUDGET, "/budget/max_error",
                           "max_error %.4g is out of reach: output dtype %s rounds everything by "
                           "about %.4g, which would work",
                           options->budget, didi_precision_name(options->precision), floor);
    return status;
}
