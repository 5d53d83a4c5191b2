/* SPDX-License-Identifier: Apache-2.0 */
/* What is told of the time left, by progress and by earlier attempts. */
#include "daemon/jobs/pace.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define assert_near(a, b) assert_true(fabs((a) - (b)) < 1e-9)

static pace fresh(double whole)
{
    return (pace){.kind = "merge", .first = -1, .whole = whole, .ends_s = NAN};
}

static void nothing_is_known_at_first(void **state)
{
    (void)state;
    pace none = {0};
    pace self = fresh(NAN);
    assert_true(isnan(pace_left(&none, 0.5, 10)));
    assert_true(isnan(pace_left(&self, 0, 100)));
    assert_true(isnan(pace_left(&self, 0.01, 101)));
}

static void speed_tells_after_a_while(void **state)
{
    (void)state;
    pace self = fresh(NAN);
    (void)pace_left(&self, 0, 100);
    assert_near(pace_left(&self, 0.5, 110), 10);
}

static void what_was_picked_up_is_no_speed(void **state)
{
    (void)state;
    pace self = fresh(NAN);
    (void)pace_left(&self, 0.6, 100);
    assert_near(pace_left(&self, 0.8, 110), 10);
}

static void earlier_attempts_tell_in_the_beginning(void **state)
{
    (void)state;
    pace self = fresh(100);
    assert_near(pace_left(&self, 0, 0), 100);
    assert_near(pace_left(&self, 0.01, 1), 99);
}

/* A guess that was wrong gives way step by step, and in the end speed alone is left. */
static void speed_takes_over(void **state)
{
    (void)state;
    pace self = fresh(1000);
    double last = pace_left(&self, 0, 0);
    for (int i = 1; i <= 100; i++) { /* a second for each percent: 100 in all */
        const double left = pace_left(&self, i / 100.0, i);
        assert_true(left >= 0 && left < last);
        last = left;
    }
    assert_true(last < 1);
}

static void time_never_runs_backwards_below_zero(void **state)
{
    (void)state;
    pace self = fresh(1);
    (void)pace_left(&self, 0, 0);
    assert_true(pace_left(&self, 0.001, 50) >= 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_known_at_first),
        cmocka_unit_test(speed_tells_after_a_while),
        cmocka_unit_test(what_was_picked_up_is_no_speed),
        cmocka_unit_test(earlier_attempts_tell_in_the_beginning),
        cmocka_unit_test(speed_takes_over),
        cmocka_unit_test(time_never_runs_backwards_below_zero),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
