/* SPDX-License-Identifier: Apache-2.0 */
/* traceparent: what is taken, what is as if it were not there (W3C Trace Context, level 1). */
#include "daemon/base/trace.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define TRACE "0af7651916cd43dd8448eb211c80319c"
#define PARENT "b7ad6b7169203331"

static void test_what_is_taken(void **state)
{
    static const struct {
        const char *text, *kept;
    } cases[] = {
        {"00-" TRACE "-" PARENT "-01", "00-" TRACE "-" PARENT "-01"},
        {"00-" TRACE "-" PARENT "-00", "00-" TRACE "-" PARENT "-00"},
        /* Flags that nobody knows are not handed on. */
        {"00-" TRACE "-" PARENT "-ff", "00-" TRACE "-" PARENT "-01"},
        {"00-" TRACE "-" PARENT "-fe", "00-" TRACE "-" PARENT "-00"},
        /* Later versions are read as this one, and may go on after a dash. */
        {"01-" TRACE "-" PARENT "-01", "00-" TRACE "-" PARENT "-01"},
        {"cc-" TRACE "-" PARENT "-01-what-the-future-holds", "00-" TRACE "-" PARENT "-01"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char kept[TRACE_BYTES] = "untouched";
        assert_true(trace_read(cases[i].text, kept));
        assert_string_equal(kept, cases[i].kept);
    }
}

static void test_what_is_not(void **state)
{
    static const char *const texts[] = {
        "",
        "00",
        "00-" TRACE "-" PARENT,
        "00-" TRACE "-" PARENT "-1",
        "00-" TRACE "-" PARENT "-01-more",
        "00-" TRACE "-" PARENT "-01 ",
        "00-" TRACE "-" PARENT "-011",
        "01-" TRACE "-" PARENT "-01.more",
        "ff-" TRACE "-" PARENT "-01",
        "0-" TRACE "-" PARENT "-01",
        "00-00000000000000000000000000000000-" PARENT "-01",
        "00-" TRACE "-0000000000000000-01",
        "00-0AF7651916CD43DD8448EB211C80319C-" PARENT "-01",
        "00-" TRACE "x-" PARENT "-01",
        "00_" TRACE "_" PARENT "_01",
        "0g-" TRACE "-" PARENT "-01",
    };
    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        char kept[TRACE_BYTES] = "untouched";
        assert_false(trace_read(texts[i], kept));
        assert_string_equal(kept, "untouched");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_taken),
        cmocka_unit_test(test_what_is_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
