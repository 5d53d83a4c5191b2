/* SPDX-License-Identifier: Apache-2.0 */
/* Loops run every index once, alone or with helpers, nested too; helpers come and go. */
#include "src/base/fault.h"
#include "src/base/parallel.h"
#include "tests/unit/support.h"

#include <pthread.h>
#include <stdatomic.h>

enum { COUNT = 200, HELPERS = 3 };

typedef struct tally {
    team *team;
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
    team_run(self->team, 5, count_inner, argument);
}

static team *make_team(void)
{
    team *made = NULL;
    didi_error error = {0};
    assert_int_equal(team_create(&made, &error), DIDI_OK);
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
    team_run(NULL, COUNT, count_index, &self);
    assert_each_once(&self, COUNT);
}

static void alone_every_index_runs_once(void **state)
{
    (void)state;
    static const size_t counts[] = {0, 1, 2, COUNT};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        tally self = {.team = make_team()};
        team_run(self.team, counts[i], nest, &self);
        assert_each_once(&self, counts[i]);
        assert_int_equal(atomic_load(&self.inner), 5 * counts[i]);
        team_free(self.team);
    }
    team_free(NULL);
}

static void *help(void *argument)
{
    team_help(argument, team_visit(argument));
    return NULL;
}

static void start_helpers(pthread_t *helpers, team *self)
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
        tally self = {.team = make_team()};
        team_enter(self.team);
        start_helpers(helpers, self.team);
        team_run(self.team, COUNT, nest, &self);
        team_leave(self.team); /* the last item ended: helpers go home */
        join_helpers(helpers);
        assert_each_once(&self, COUNT);
        assert_int_equal(atomic_load(&self.inner), 5 * COUNT);
        team_free(self.team);
    }
}

static void recalled_helpers_leave_and_may_come_back(void **state)
{
    (void)state;
    pthread_t helpers[HELPERS];
    tally self = {.team = make_team()};
    team_help(self.team, team_visit(self.team)); /* no item: returns at once */
    team_enter(self.team);
    start_helpers(helpers, self.team);
    team_recall(self.team);
    join_helpers(helpers);
    team_help(self.team, team_visit(self.team)); /* still recalled */
    team_run(self.team, COUNT, count_index, &self);
    assert_each_once(&self, COUNT);
    team_welcome(self.team);
    start_helpers(helpers, self.team);
    team_leave(self.team);
    join_helpers(helpers);
    team_free(self.team);
}

static void a_helper_of_an_earlier_stage_goes_home(void **state)
{
    (void)state;
    team *made = make_team();
    team_enter(made);
    size_t visit = team_visit(made);
    team_leave(made);
    team_enter(made); /* the next stage's, which has helpers of its own */
    team_help(made, visit);
    team_leave(made);
    team_free(made);
}

static void no_memory_is_told(void **state)
{
    (void)state;
    team *made = NULL;
    didi_error error = {0};
    assert_int_equal(fault_arm("alloc:1"), 0);
    assert_int_equal(team_create(&made, &error), DIDI_NO_MEMORY);
    assert_null(made);
    assert_int_equal(fault_arm(NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_a_team_it_is_a_loop),
        cmocka_unit_test(alone_every_index_runs_once),
        cmocka_unit_test(with_helpers_every_index_runs_once),
        cmocka_unit_test(recalled_helpers_leave_and_may_come_back),
        cmocka_unit_test(a_helper_of_an_earlier_stage_goes_home),
        cmocka_unit_test(no_memory_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
