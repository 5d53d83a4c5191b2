/* SPDX-License-Identifier: Apache-2.0 */
/* What may have been meant by a word that is wrong. Short because it is a table. */
#include "src/base/base.h"
#include "tests/unit/support.h"

#include <string.h>

static const char *const commands[] = {"submit",   "jobs",     "show", "cancel",
                                       "frontier", "model ls", "rm",   "ranks"};

static void the_nearest_is_found_or_none(void **state)
{
    static const struct {
        const char *wanted, *found;
    } rows[] = {
        {"sumbit", "submit"},
        {"submt", "submit"},
        {"SUBMIT", "submit"},
        {"submits", "submit"},
        {"model sl", "model ls"},
        {"front", "frontier"},
        {"rn", "rm"},
        {"job", "jobs"},
        {"cnacel", "cancel"},
        {"zzz", ""},
        {"x", ""},
        {"", ""},
        {"shwo", "show"},
        {"rank", "ranks"},
        {"delete", ""},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        nearest near = nearest_begin(rows[i].wanted);
        for (size_t j = 0; j < sizeof commands / sizeof commands[0]; j++)
            nearest_try(&near, commands[j]);
        assert_string_equal(near.found, rows[i].found);
    }
}

static void the_nearer_wins_whatever_the_order(void **state)
{
    (void)state;
    nearest near = nearest_begin("tasks/latn");
    nearest_try(&near, "tasks/thai");
    nearest_try(&near, "tasks/latin");
    nearest_try(&near, "tasks/mnist");
    assert_string_equal(near.found, "tasks/latin");
}

static void the_last_step_of_a_path_tells_it(void **state)
{
    (void)state;
    nearest near = nearest_begin("mnist");
    nearest_try(&near, "family/glyph/mnist");
    assert_string_equal(near.found, "family/glyph/mnist");
    near = nearest_begin("mnist");
    nearest_try(&near, "family/glyphmnist");
    assert_string_equal(near.found, "");
}

static void words_of_any_length_do_no_harm(void **state)
{
    char longest[NEAREST_BYTES_MAX + 2];
    char text[NEAREST_TEXT_BYTES];
    (void)state;
    memset(longest, 'a', sizeof longest);
    longest[NEAREST_BYTES_MAX + 1] = '\0';
    nearest near = nearest_begin(longest);
    nearest_try(&near, longest);
    assert_string_equal(nearest_text(&near, "'", "'", text), "");
    longest[NEAREST_BYTES_MAX] = '\0';
    near = nearest_begin(longest);
    nearest_try(&near, longest + 1);
    assert_string_equal(near.found, longest + 1);
    nearest_text(&near, "--", "", text);
    assert_int_equal(strlen(text), strlen("; did you mean --?") + NEAREST_BYTES_MAX - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_nearest_is_found_or_none),
        cmocka_unit_test(the_nearer_wins_whatever_the_order),
        cmocka_unit_test(the_last_step_of_a_path_tells_it),
        cmocka_unit_test(words_of_any_length_do_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
