/* SPDX-License-Identifier: Apache-2.0 */
/* The log: escaping, cutting, and a reader that does not read. */
#include "daemon/base/base.h"
#include "daemon/base/log_queue.h"
#include "tests/unit/support.h"

#include <fcntl.h>
#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PIPE_BYTES = 4096, FLOOD_LINES = 20000, FLOOD_THREADS = 4 };

static int ends[2];

static int pipe_open(void **state)
{
    (void)state;
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    assert_true(fcntl(ends[1], F_SETPIPE_SZ, PIPE_BYTES) >= PIPE_BYTES);
    return 0;
}

static int pipe_close(void **state)
{
    (void)state;
    log_configure(LOG_FORMAT_LOGFMT, LOG_LEVEL_INFO, STDERR_FILENO);
    close(ends[0]);
    close(ends[1]);
    return 0;
}

static const char *logged(log_format format, const char *message, const char *value)
{
    static char text[16384];
    log_configure(format, LOG_LEVEL_INFO, ends[1]);
    log_emit(LOG_LEVEL_INFO, message, LOG_TEXT("value", value), LOG_INTEGER("n", 7));
    ssize_t bytes = read(ends[0], text, sizeof text - 1);
    assert_true(bytes > 0);
    text[bytes] = '\0';
    return text;
}

static void values_are_escaped(void **state)
{
    static const char evil[] = "a\x1b[2J\n\xc2\x9b\xe2\x80\xae\xff\"\\";
    static const char shown[] =
        "\"a\\\\u{1b}[2J\\\\u{a}\\\\u{9b}\\\\u{202e}\\\\u{dcff}\\\"\\\\\" n=7\n";
    (void)state;
    const char *line = logged(LOG_FORMAT_LOGFMT, "m", evil);
    assert_non_null(strstr(line, shown));
    assert_non_null(strstr(logged(LOG_FORMAT_LOGFMT, "m", "caf\xc3\xa9"), "value=caf\xc3\xa9 n=7"));
    json_t *parsed = json_loads(logged(LOG_FORMAT_JSON, "m\x7f", evil), 0, NULL);
    assert_string_equal(json_string_value(json_object_get(parsed, "message")), "m\\u{7f}");
    assert_string_equal(json_string_value(json_object_get(parsed, "value")),
                        "a\\u{1b}[2J\\u{a}\\u{9b}\\u{202e}\\u{dcff}\"\\");
    json_decref(parsed);
}

/* A line that is cut is still a line, and JSON. */
static void long_values_are_cut(void **state)
{
    char text[PIPE_BYTES * 4];
    char line[PIPE_BYTES * 4];
    FILE *file = tmpfile();
    (void)state;
    assert_non_null(file);
    memset(text, '\x01', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    log_configure(LOG_FORMAT_JSON, LOG_LEVEL_INFO, fileno(file));
    log_emit(LOG_LEVEL_INFO, "m", LOG_TEXT("value", text), LOG_TEXT("more", text));
    ssize_t bytes = pread(fileno(file), line, sizeof line - 1, 0);
    assert_in_range(bytes, 8000, 8192);
    line[bytes] = '\0';
    assert_int_equal(strchr(line, '\n') - line, bytes - 1);
    json_t *parsed = json_loads(line, 0, NULL);
    assert_non_null(parsed);
    json_decref(parsed);
    (void)fclose(file);
}

static void *flood(void *context)
{
    (void)context;
    for (int i = 0; i < FLOOD_LINES / FLOOD_THREADS; i++)
        log_emit(LOG_LEVEL_INFO, "flood", LOG_INTEGER("i", i));
    return NULL;
}

typedef struct counted {
    uint64_t lines, told, notices;
} counted;

static void *read_all(void *context)
{
    counted *self = context;
    FILE *stream = fdopen(dup(ends[0]), "r");
    char line[LOG_QUEUE_LINES];
    while (fgets(line, sizeof line, stream) != NULL) {
        const char *notice = strstr(line, "lines dropped\" lines=");
        self->lines += strstr(line, "message=\"flood\"") != NULL;
        self->notices += notice != NULL;
        self->told += notice != NULL ? strtoull(strrchr(line, '=') + 1, NULL, 10) : 0;
    }
    (void)fclose(stream);
    return NULL;
}

/* Nobody reads: those who log go on. Then somebody does: what is missing is told in one line. */
static void a_full_pipe_blocks_nobody(void **state)
{
    pthread_t threads[FLOOD_THREADS];
    pthread_t reader;
    counted found = {0};
    didi_error error = {0};
    uint64_t before = log_dropped();
    (void)state;
    log_configure(LOG_FORMAT_LOGFMT, LOG_LEVEL_INFO, ends[1]);
    assert_int_equal(log_start(&error), DIDI_OK);
    for (size_t i = 0; i < FLOOD_THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, flood, NULL), 0);
    for (size_t i = 0; i < FLOOD_THREADS; i++)
        pthread_join(threads[i], NULL);
    uint64_t dropped = log_dropped() - before;
    assert_in_range(dropped, 1, FLOOD_LINES);
    assert_int_equal(pthread_create(&reader, NULL, read_all, &found), 0);
    log_flush();
    log_stop();
    close(ends[1]);
    ends[1] = -1;
    pthread_join(reader, NULL);
    assert_int_equal(found.lines + found.told, FLOOD_LINES);
    assert_int_equal(found.told, dropped);
    assert_int_equal(found.notices, 1);
}

/* The end of the process does not wait for a reader that never comes. */
static void stopping_is_bounded(void **state)
{
    didi_error error = {0};
    (void)state;
    log_configure(LOG_FORMAT_LOGFMT, LOG_LEVEL_INFO, ends[1]);
    assert_int_equal(log_start(&error), DIDI_OK);
    flood(NULL);
    log_stop();
    /* without a queue, at once, and still not for ever */
    uint64_t before = log_dropped();
    log_emit(LOG_LEVEL_ERROR, "late");
    assert_int_equal(log_dropped(), before + 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(values_are_escaped, pipe_open, pipe_close),
        cmocka_unit_test_setup_teardown(long_values_are_cut, pipe_open, pipe_close),
        cmocka_unit_test_setup_teardown(a_full_pipe_blocks_nobody, pipe_open, pipe_close),
        cmocka_unit_test_setup_teardown(stopping_is_bounded, pipe_open, pipe_close),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
