/* SPDX-License-Identifier: Apache-2.0 */
/* Holders and their rates under a clock of the test's own. */
#include "daemon/http/limits.h"
#include "tests/unit/support.h"

#include <stdio.h>

static void test_a_burst_then_the_rate(void **state)
{
    http_holders *holders = http_holders_create((http_rate){.per_second = 10, .burst = 5});
    int64_t wait_ms = 0;
    (void)state;
    assert_non_null(holders);
    http_holder *holder = http_holders_get(holders, "192.0.2.1", 1000);
    assert_int_equal(http_holder_left(holders, holder, 1000), 5);
    for (int i = 0; i < 5; i++)
        assert_true(http_holder_request(holders, holder, 1000, &wait_ms));
    assert_false(http_holder_request(holders, holder, 1000, &wait_ms));
    assert_int_equal(wait_ms, 100);
    assert_false(http_holder_request(holders, holder, 1099, &wait_ms));
    assert_int_equal(wait_ms, 1);
    assert_true(http_holder_request(holders, holder, 1100, &wait_ms));
    assert_false(http_holder_request(holders, holder, 1100, &wait_ms));
    /* Ten a second for a minute, asked for twice as often. */
    size_t passed = 0;
    for (int64_t now = 1150; now <= 61100; now += 50)
        passed += http_holder_request(holders, holder, now, &wait_ms);
    assert_int_equal(passed, 600);
    /* A long rest gives no more than a burst; a clock that goes back gives nothing. */
    assert_int_equal(http_holder_left(holders, holder, INT64_MAX / 2), 5);
    assert_int_equal(http_holder_left(holders, holder, 0), 0);
    http_holders_put(holder);
    http_holders_free(holders);
}

static void test_without_a_rate_all_pass(void **state)
{
    http_holders *holders = http_holders_create((http_rate){0});
    int64_t wait_ms = 0;
    (void)state;
    http_holder *holder = http_holders_get(holders, "a", 0);
    for (int i = 0; i < 100000; i++)
        assert_true(http_holder_request(holders, holder, 0, &wait_ms));
    http_holders_put(holder);
    http_holders_free(holders);
}

static void test_holders_are_forgotten(void **state)
{
    http_holders *holders = http_holders_create((http_rate){.per_second = 1, .burst = 1});
    char key[HTTP_HOLDER_KEY_BYTES];
    int64_t wait_ms = 0;
    (void)state;
    http_holder *kept = http_holders_get(holders, "kept", 0);
    assert_ptr_equal(http_holders_get(holders, "kept", 0), kept);
    http_holders_put(kept);
    /* One that has used up its rate is remembered until it has it back, even when it left. */
    for (int i = 0; i < 20000; i++) {
        snprintf(key, sizeof key, "198.51.100.%d", i);
        http_holder *holder = http_holders_get(holders, key, 10);
        assert_true(http_holder_request(holders, holder, 10, &wait_ms));
        http_holders_put(holder);
    }
    assert_int_equal(http_holders_count(holders), 20001);
    for (int i = 0; i < 5000; i++)
        http_holders_put(http_holders_get(holders, "kept", 5000));
    assert_int_equal(http_holders_count(holders), 1);
    http_holders_put(kept);
    http_holders_free(holders);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_burst_then_the_rate),
        cmocka_unit_test(test_without_a_rate_all_pass),
        cmocka_unit_test(test_holders_are_forgotten),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
