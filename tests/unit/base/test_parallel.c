/* SPDX-License-Identifier: Apache-2.0 */
/* Loops run every index once, alone or with helpers, nested too; helpers come and go. */
#include "src/base/fault.h"
#include "src/base/parallel.h"
#include "tests/unit/support.h"

#include <pthread.h>
#include <stdatomic.h>

enum { COUNT = 200, HELPERS = 3 };

typedef struct tally {
    parallel *parallel;
    atomic_int runs[COUNT];
    atomic_int inner;
} tally;

static void count_index(void *argument, size_t index)
{
    tally *self = argument;
    atomic_fetch_add(&self->runs[index], 1);
}

static void count_inner(void *argument, size_t index)
{
    tally *self = argument;
    (void)index;
    atomic_fetch_add(&self->inner, 1);
}

static void nest(void *argument, size_t index)
{
    tally *self = argument;
    count_index(argument, index);
    parallel_run(self->parallel, 5, count_inner, argument);
}

static parallel *make_team(void)
{
    parallel *made = NULL;
    didi_error error = {0};
    assert_int_equal(parallel_create(&made, &error), DIDI_OK);
    return made;
}

static void assert_each_once(tally *self, size_t count)
{
    for (size_t i = 0; i < COUNT; i++)
        assert_int_equal(atomic_load(&self->runs[i]), i < count);
}

static void without_a_team_it_is_a_loop(void **state)
{
    (void)state;
    tally self = {0};
    parallel_run(NULL, COUNT, count_index, &self);
    assert_each_once(&self, COUNT);
}

static void alone_every_index_runs_once(void **state)
{
    (void)state;
    static const size_t counts[] = {0, 1, 2, COUNT};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        tally self = {.parallel = make_team()};
        parallel_run(self.parallel, counts[i], nest, &self);
        assert_each_once(&self, counts[i]);
        assert_int_equal(atomic_load(&self.inner), 5 * counts[i]);
        parallel_free(self.parallel);
    }
    parallel_free(NULL);
}

static void *help(void *argument)
{
    parallel_help(argument, parallel_epoch(argument));
    return NULL;
}

static void start_helpers(pthread_t *helpers, parallel *self)
{
    for (size_t i = 0; i < HELPERS; i++)
        assert_int_equal(pthread_create(&helpers[i], NULL, help, self), 0);
}

static void join_helpers(const pthread_t *helpers)
{
    for (size_t i = 0; i < HELPERS; i++)
        assert_int_equal(pthread_join(helpers[i], NULL), 0);
}

static void with_helpers_every_index_runs_once(void **state)
{
    (void)state;
    pthread_t helpers[HELPERS];
    for (int round = 0; round < 20; round++) {
        tally self = {.parallel = make_team()};
        parallel_enter(self.parallel);
        start_helpers(helpers, self.parallel);
        parallel_run(self.parallel, COUNT, nest, &self);
        parallel_leave(self.parallel); /* the last item ended: helpers go home */
        join_helpers(helpers);
        assert_each_once(&self, COUNT);
        assert_int_equal(atomic_load(&self.inner), 5 * COUNT);
        parallel_free(self.parallel);
    }
}

static void count_range(void *argument, size_t first, size_t end)
{
    assert_true(first < end);
    for (size_t i = first; i < end; i++)
        count_index(argument, i);
}

static void ranges_cover_all_once(void **state)
{
    (void)state;
    static const size_t widths[] = {1, 7, COUNT - 1, COUNT, COUNT + 1};
    for (size_t i = 0; i < sizeof widths / sizeof *widths; i++) {
        tally self = {.parallel = make_team()};
        parallel_ranges(self.parallel, COUNT, widths[i], count_range, &self);
        assert_each_once(&self, COUNT);
        parallel_ranges(NULL, 0, widths[i], count_range, &self);
        assert_each_once(&self, COUNT);
        parallel_free(self.parallel);
    }
}

static void widths_are_even(void **state)
{
    (void)state;
    assert_int_equal(parallel_width(4096, 768), 688);
    assert_int_equal(parallel_width(1024, 768), 512);
    assert_int_equal(parallel_width(768, 768), 768);
    assert_int_equal(parallel_width(769, 768), 392);
    assert_int_equal(parallel_width(3, 768), 8);
    assert_int_equal(parallel_width(0, 8), 8);
}

static void recalled_helpers_leave_and_may_come_back(void **state)
{
    (void)state;
    pthread_t helpers[HELPERS];
    tally self = {.parallel = make_team()};
    parallel_help(self.parallel, parallel_epoch(self.parallel)); /* no item: returns at once */
    parallel_enter(self.parallel);
    start_helpers(helpers, self.parallel);
    parallel_recall(self.parallel);
    join_helpers(helpers);
    parallel_help(self.parallel, parallel_epoch(self.parallel)); /* still recalled */
    parallel_run(self.parallel, COUNT, count_index, &self);
    assert_each_once(&self, COUNT);
    parallel_welcome(self.parallel);
    start_helpers(helpers, self.parallel);
    parallel_leave(self.parallel);
    join_helpers(helpers);
    parallel_free(self.parallel);
}

static void a_helper_of_an_earlier_stage_goes_home(void **state)
{
    (void)state;
    parallel *made = make_team();
    parallel_enter(made);
    size_t epoch = parallel_epoch(made);
    parallel_leave(made);
    parallel_enter(made); /* the next stage's, which has helpers of its own */
    parallel_help(made, epoch);
    parallel_leave(made);
    parallel_free(made);
}

static void no_memory_is_told(void **state)
{
    (void)state;
    parallel *made = NULL;
    didi_error error = {0};
    assert_int_equal(fault_arm("alloc:1"), 0);
    assert_int_equal(parallel_create(&made, &error), DIDI_NO_MEMORY);
    assert_null(made);
    assert_int_equal(fault_arm(NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_a_team_it_is_a_loop),
        cmocka_unit_test(alone_every_index_runs_once),
        cmocka_unit_test(with_helpers_every_index_runs_once),
        cmocka_unit_test(ranges_cover_all_once),
        cmocka_unit_test(widths_are_even),
        cmocka_unit_test(recalled_helpers_leave_and_may_come_back),
        cmocka_unit_test(a_helper_of_an_earlier_stage_goes_home),
        cmocka_unit_test(no_memory_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
