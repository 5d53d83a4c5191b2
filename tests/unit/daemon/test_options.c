/* SPDX-License-Identifier: Apache-2.0 */
/* Command lines: every kind of row, every kind of mistake. */
#include "daemon/base/base.h"
#include "tests/unit/support.h"

#include <getopt.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

typedef struct wishes {
    bool verbose, help;
    const char *out;
    option_list tasks, paths;
    option_settings settings;
} wishes;

#define AT(member) offsetof(wishes, member)
static const option_row rows[] = {
    {"verbose", OPTION_FLAG, AT(verbose)},
    {"help", OPTION_LAST, AT(help)},
    {"out", OPTION_TEXT, AT(out)},
    {"task", OPTION_LIST, AT(tasks)},
    {"memory_limit", OPTION_SETTING, AT(settings)},
    {"", OPTION_ARGUMENT, AT(paths)},
    {NULL, OPTION_END, 0},
};
static const option_row no_arguments[] = {
    {"verbose", OPTION_FLAG, AT(verbose)},
    {NULL, OPTION_END, 0},
};

/* `words` ends with NULL. */
static int read_words(const option_row *table, const char *const *words, wishes *into,
                      didi_error *error)
{
    char *argv[OPTIONS_LIST_MAX * 2] = {(char *)"didid"};
    int argc = 1;
    for (; *words != NULL; words++)
        argv[argc++] = (char *)*words;
    optind = 1; /* as in a new process */
    return options_read(table, into, argc, argv, error);
}

static void every_row_is_set(void **state)
{
    const char *words[] = {
        "one",        "--memory-limit=4G", "--task", "a=x",   "--verb", "--out",     "first",
        "--task=b=y", "--out=is",          "--",     "--two", "three",  "--verbose", NULL};
    wishes made = {0};
    (void)state;
    assert_int_equal(read_words(rows, words, &made, NULL), DIDI_OK);
    assert_true(made.verbose && !made.help);
    assert_string_equal(made.out, "is");
    assert_int_equal(made.tasks.count, 2);
    assert_string_equal(made.tasks.texts[1], "b=y");
    assert_int_equal(made.settings.count, 1);
    assert_string_equal(made.settings.keys[0], "memory_limit");
    assert_string_equal(made.settings.values[0], "4G");
    assert_int_equal(made.paths.count, 4);
    assert_string_equal(made.paths.texts[0], "one");
    assert_string_equal(made.paths.texts[3], "--verbose");
}

static void the_last_ends_the_reading(void **state)
{
    const char *const texts[] = {"--help", "-h"};
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        const char *words[] = {texts[i], "--nonsense", NULL};
        wishes made = {0};
        assert_int_equal(read_words(rows, words, &made, NULL), DIDI_OK);
        assert_true(made.help);
    }
}

static void mistakes_name_the_word(void **state)
{
    static const struct {
        const char *word, *message;
    } cases[] = {
        {"--nonsense", "unknown option --nonsense"},
        {"--memory_limit=1", "unknown option --memory_limit=1; did you mean --memory-limit?"},
        {"--verbose=yes", "unknown option --verbose=yes; did you mean --verbose?"},
        {"--out", "a value is missing after --out"},
        {"-x", "unexpected argument -x"},
    };
    const char *argument[] = {"word", NULL};
    wishes made = {0};
    didi_error error = {0};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *words[] = {cases[i].word, NULL};
        assert_int_equal(read_words(rows, words, &made, &error), DIDI_INVALID);
        assert_string_equal(error.message, cases[i].message);
    }
    assert_int_equal(read_words(no_arguments, argument, &made, &error), DIDI_INVALID);
    assert_string_equal(error.message, "unexpected argument word");
}

static void lists_are_bounded(void **state)
{
    const char *words[OPTIONS_LIST_MAX + 2];
    wishes made = {0};
    didi_error error = {0};
    (void)state;
    for (size_t i = 0; i <= OPTIONS_LIST_MAX; i++)
        words[i] = "--task=a";
    words[OPTIONS_LIST_MAX + 1] = NULL;
    assert_int_equal(read_words(rows, words, &made, &error), DIDI_INVALID);
    assert_string_equal(error.message, "too many options at --task=a");
    assert_int_equal(made.tasks.count, OPTIONS_LIST_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row_is_set),
        cmocka_unit_test(the_last_ends_the_reading),
        cmocka_unit_test(mistakes_name_the_word),
        cmocka_unit_test(lists_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
