/* SPDX-License-Identifier: Apache-2.0 */
/* Settings, ids, times, log lines, models beneath their roots, spacing of telemetry. */
#include "daemon/base/base.h"
#include "daemon/jobs/telemetry.h"
#include "daemon/models/roots.h"
#include "src/base/file.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static int read_text(const char *text, config *settings, didi_error *error)
{
    char path[] = "/tmp/didid-config-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
    assert_int_equal(config_init(settings, error), DIDI_OK);
    int status = config_read_file(settings, path, error);
    unlink(path);
    return status;
}

static void test_file(void **state)
{
    config settings;
    didi_error error = {0};
    (void)state;
    assert_int_equal(read_text("# a comment\n\n state_dir = /var/x y \nmodels=/a\nmodels = /b\n"
                               "memory_limit = 2G\nworkers=3\nlog_format = json\n",
                               &settings, &error),
                     DIDI_OK);
    assert_string_equal(settings.state_dir, "/var/x y");
    assert_int_equal(settings.model_count, 2);
    assert_string_equal(settings.models[1], "/b");
    assert_true(settings.memory_limit == UINT64_C(2) << 30);
    assert_int_equal(settings.workers, 3);
    assert_int_equal(settings.log_format, LOG_FORMAT_JSON);
    assert_int_equal(settings.running_jobs_max, 4);
    assert_int_equal(config_finish(&settings, &error), DIDI_OK);
    config_clear(&settings);
}

static void test_bad_files(void **state)
{
    static const char *const bad[] = {
        "state_dir\n",
        "unknown = 1\n",
        "workers = x\n",
        "workers = -1\n",
        "workers = 1K\n",
        "workers = 99999\n",
        "workers = 1\nworkers = 1\n",
        "memory_limit = 99999999T\n",
        "memory_limit = 1X\n",
        "log_format = xml\n",
        "log_level = loud\n",
        "listen =\n",
        "memory_limit = 9223372036854775808\n",
    };
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        config settings;
        didi_error error = {0};
        assert_int_equal(read_text(bad[i], &settings, &error), DIDI_INVALID);
        assert_non_null(strstr(error.message, " line "));
        config_clear(&settings);
    }
}

static void test_missing_settings(void **state)
{
    config settings;
    didi_error error = {0};
    (void)state;
    assert_int_equal(config_init(&settings, &error), DIDI_OK);
    assert_int_equal(config_finish(&settings, &error), DIDI_INVALID);
    assert_string_equal(error.subject, "state_dir");
    config_clear(&settings);
}

static void test_the_fetch_directory_is_a_model_directory(void **state)
{
    config settings;
    didi_error error = {0};
    (void)state;
    assert_int_equal(read_text("state_dir = /s\nmodels = /m\nfetch_dir = /f\n", &settings, &error),
                     DIDI_OK);
    assert_int_equal(config_finish(&settings, &error), DIDI_OK);
    assert_int_equal(settings.model_count, 2);
    assert_string_equal(settings.models[1], "/f");
    assert_int_equal(config_finish(&settings, &error), DIDI_OK);
    assert_int_equal(settings.model_count, 2);
    config_clear(&settings);
    assert_int_equal(read_text("state_dir = /s\nmodels = /m\nfetch_hosts = x\n", &settings, &error),
                     DIDI_OK);
    assert_int_equal(config_finish(&settings, &error), DIDI_INVALID);
    config_clear(&settings);
    assert_int_equal(read_text("fetch_private = 2\n", &settings, &error), DIDI_INVALID);
    config_clear(&settings);
}

/* What each executor needs, told by the setting that is at fault. */
static void test_executors(void **state)
{
    static const struct {
        const char *text, *subject; /* NULL: fine */
    } cases[] = {
        {"executor = slurm\n", NULL},
        {"executor = mpi\nmpi_ranks = 4\n", NULL},
        {"executor = command\ncommand_submit = a\ncommand_status = b c\ncommand_cancel = d\n",
         NULL},
        {"executor = pbs\n", "executor"},
        {"executor = mpi\n", "mpi_ranks"},
        {"mpi_allocation = lsf\n", "mpi_allocation"},
        {"worker_path = bin/didid\n", "worker_path"},
        {"mpi_program = didid-mpi\n", "mpi_program"},
        {"executor = command\ncommand_submit = a\ncommand_status = b\n", "command_submit"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        config settings;
        didi_error error = {0};
        char text[256];
        snprintf(text, sizeof text, "state_dir = /s\nmodels = /m\n%s", cases[i].text);
        assert_int_equal(read_text(text, &settings, &error), DIDI_OK);
        assert_int_equal(config_finish(&settings, &error),
                         cases[i].subject == NULL ? DIDI_OK : DIDI_INVALID);
        assert_string_equal(error.subject, cases[i].subject == NULL ? "" : cases[i].subject);
        config_clear(&settings);
    }
}

static void test_ids_ascend_and_tell_the_time(void **state)
{
    char last[ID_BYTES] = "";
    char next[ID_BYTES];
    (void)state;
    for (int i = 0; i < 1000; i++) {
        /* The clock stands still, then goes back. */
        assert_int_equal(id_next(i < 500 ? 1700000000000 : 1600000000000, last, next), 0);
        assert_true(id_is_valid(next));
        assert_true(strcmp(next, last) > 0);
        memcpy(last, next, sizeof last);
    }
    assert_int_equal(id_next(0, NULL, next), 0);
    assert_memory_equal(next, "0000000000", 10);
    assert_int_equal(id_next(1, NULL, next), 0);
    assert_memory_equal(next, "0000000001", 10);
    assert_int_equal(id_next(INT64_C(0xffffffffffff), NULL, next), 0);
    assert_memory_equal(next, "7zzzzzzzzz", 10);
    assert_false(id_is_valid("80000000000000000000000000"));
    assert_false(id_is_valid("0000000000000000000000000"));
    assert_false(id_is_valid("000000000000000000000000000"));
    assert_false(id_is_valid("0000000000000000000000000i"));
    assert_false(id_is_valid(NULL));
}

static void test_times(void **state)
{
    char text[CLOCK_TEXT_BYTES];
    (void)state;
    clock_format(0, text);
    assert_string_equal(text, "1970-01-01T00:00:00.000Z");
    clock_format(1700000000123, text);
    assert_string_equal(text, "2023-11-14T22:13:20.123Z");
    clock_format(-1, text);
    assert_string_equal(text, "1969-12-31T23:59:59.999Z");
    clock_format(INT64_MAX, text);
    assert_string_equal(text, "9999-12-31T23:59:59.999Z");
}

static void test_log_lines(void **state)
{
    int ends[2];
    char line[512] = {0};
    (void)state;
    assert_int_equal(pipe(ends), 0);
    log_configure(LOG_FORMAT_LOGFMT, LOG_LEVEL_INFO, ends[1]);
    log_emit(LOG_LEVEL_DEBUG, "not shown");
    log_emit(LOG_LEVEL_INFO, "a \"b\"", LOG_TEXT("job", "x y\n"), LOG_INTEGER("n", -3),
             LOG_TEXT("plain", "/a/b"));
    assert_true(read(ends[0], line, sizeof line - 1) > 0);
    assert_non_null(
        strstr(line, " level=info message=\"a \\\"b\\\"\" job=\"x y\\\\u{a}\" n=-3 plain=/a/b\n"));
    memset(line, 0, sizeof line);
    log_configure(LOG_FORMAT_JSON, LOG_LEVEL_INFO, ends[1]);
    log_emit(LOG_LEVEL_ERROR, "m", LOG_REAL("r", 0.5), LOG_TEXT("t", NULL));
    assert_true(read(ends[0], line, sizeof line - 1) > 0);
    assert_non_null(strstr(line, "\"level\":\"error\",\"message\":\"m\",\"r\":0.5,\"t\":null}\n"));
    log_configure(LOG_FORMAT_LOGFMT, LOG_LEVEL_INFO, STDERR_FILENO);
    close(ends[0]);
    close(ends[1]);
}

static int collect(void *context, size_t root, const char *name, didi_error *error)
{
    char *names = context;
    (void)error;
    snprintf(names + strlen(names), 256 - strlen(names), "%zu:%s ", root, name);
    return 0;
}

static void touch(int directory_fd, const char *name)
{
    int fd = openat(directory_fd, name, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    close(fd);
}

static void test_models_are_opened_beneath_their_root(void **state)
{
    char root[] = "/tmp/didid-roots-XXXXXX";
    char names[256] = "";
    model_roots *roots = NULL;
    didi_error error = {0};
    int fd = -1;
    (void)state;
    assert_non_null(mkdtemp(root));
    const char *const paths[] = {root};
    int root_fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(mkdirat(root_fd, "x", 0700), 0);
    assert_int_equal(mkdirat(root_fd, "x/y", 0700), 0);
    assert_int_equal(symlinkat("/tmp", root_fd, "out"), 0);
    assert_int_equal(symlinkat("x/y", root_fd, "in"), 0);
    touch(root_fd, "x/y/model.safetensors");
    assert_int_equal(model_roots_open(paths, 1, &roots, &error), DIDI_OK);
    assert_int_equal(model_roots_open_model(roots, "x/y", &fd, &error), DIDI_OK);
    close(fd);
    assert_int_equal(model_roots_open_model(roots, "in", &fd, &error), DIDI_OK);
    close(fd);
    assert_int_equal(model_roots_open_model(roots, "out", &fd, &error), DIDI_NOT_FOUND);
    assert_int_equal(model_roots_open_model(roots, "none", &fd, &error), DIDI_NOT_FOUND);
    assert_int_equal(model_roots_open_model(roots, "../x", &fd, &error), DIDI_INVALID);
    assert_int_equal(model_roots_walk(roots, collect, names, &error), DIDI_OK);
    assert_string_equal(names, "0:x/y ");
    model_roots_close(roots);
    close(root_fd);
    int parent = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(file_remove_tree(parent, strrchr(root, '/') + 1, &error), DIDI_OK);
    close(parent);
}

static void test_telemetry_grows_with_the_logarithm(void **state)
{
    static const struct {
        uint64_t steps;
        size_t lowest, highest;
    } cases[] = {{100, 100, 100}, {1000, 200, 420}, {100000, 700, 1000}, {10000000, 1200, 1700}};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint64_t kept = 0;
        size_t count = 0;
        for (uint64_t seen = 1; seen <= cases[i].steps; seen++)
            if (telemetry_keeps(seen, kept, 128)) {
                kept = seen;
                count++;
            }
        assert_in_range(count, cases[i].lowest, cases[i].highest);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_file),
        cmocka_unit_test(test_bad_files),
        cmocka_unit_test(test_missing_settings),
        cmocka_unit_test(test_the_fetch_directory_is_a_model_directory),
        cmocka_unit_test(test_executors),
        cmocka_unit_test(test_ids_ascend_and_tell_the_time),
        cmocka_unit_test(test_times),
        cmocka_unit_test(test_log_lines),
        cmocka_unit_test(test_models_are_opened_beneath_their_root),
        cmocka_unit_test(test_telemetry_grows_with_the_logarithm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
