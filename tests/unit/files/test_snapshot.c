/* SPDX-License-Identifier: Apache-2.0 */
/* State files come back as they went in, appear whole or not at all, and are checked when read. */
#include "src/base/fault.h"
#include "src/files/snapshot.h"
#include "tests/unit/support.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const float numbers[] = {1, 2, 3, 4, 5, 6};
static const double values[] = {0.5, 0.25};
static const snapshot_entry entries[] = {
    {"numbers", DIDI_DTYPE_F32, 2, 3, numbers},
    {"values", DIDI_DTYPE_F64, 1, 2, values},
    {"nothing", DIDI_DTYPE_F32, 0, 3, NULL},
};

static int save(int directory, const char *name, bool durable, didi_error *error)
{
    return snapshot_save(directory, name, entries, 3, durable, error);
}

static void arrays_come_back(void **context)
{
    int directory = support_directory(context);
    for (int durable = 0; durable < 2; durable++) {
        didi_error error = {0};
        snapshot *from = NULL;
        const void *data = NULL;
        uint64_t rows = 9;
        assert_int_equal(save(directory, "a.state", durable == 1, &error), DIDI_OK);
        assert_true(support_exists(directory, "a.state"));
        assert_int_equal(support_entries(directory), 1);
        assert_int_equal(snapshot_open(directory, "a.state", &from, &error), DIDI_OK);
        assert_int_equal(snapshot_find(from, "numbers", DIDI_DTYPE_F32, 3, &rows, &data, &error),
                         DIDI_OK);
        assert_int_equal(rows, 2);
        assert_memory_equal(data, numbers, sizeof numbers);
        assert_int_equal((uintptr_t)data % sizeof(float), 0);
        assert_int_equal(snapshot_find(from, "values", DIDI_DTYPE_F64, 2, NULL, &data, &error),
                         DIDI_OK);
        assert_memory_equal(data, values, sizeof values);
        assert_int_equal((uintptr_t)data % sizeof(double), 0);
        assert_int_equal(snapshot_find(from, "nothing", DIDI_DTYPE_F32, 3, &rows, &data, &error),
                         DIDI_OK);
        assert_int_equal(rows, 0);
        snapshot_close(from);
    }
    snapshot_close(NULL);
    assert_false(support_exists(directory, "b.state"));
}

static void what_does_not_fit_is_refused(void **context)
{
    int directory = support_directory(context);
    didi_error error = {0};
    snapshot *from = NULL;
    const void *data = NULL;
    assert_int_equal(snapshot_open(directory, "a.state", &from, &error), DIDI_NOT_FOUND);
    assert_null(from);
    assert_int_equal(save(directory, "a.state", false, &error), DIDI_OK);
    assert_int_equal(snapshot_open(directory, "a.state", &from, &error), DIDI_OK);
    assert_int_equal(snapshot_find(from, "other", DIDI_DTYPE_F32, 3, NULL, &data, &error),
                     DIDI_FORMAT);
    support_assert_contains(error.message, "other");
    assert_int_equal(snapshot_find(from, "numbers", DIDI_DTYPE_F64, 3, NULL, &data, &error),
                     DIDI_FORMAT);
    assert_int_equal(snapshot_find(from, "numbers", DIDI_DTYPE_F32, 2, NULL, &data, &error),
                     DIDI_FORMAT);
    snapshot_close(from);
}

static void a_broken_file_is_refused(void **context)
{
    int directory = support_directory(context);
    didi_error error = {0};
    snapshot *from = NULL;
    support_write(directory, "empty.state", "", 0);
    assert_int_equal(snapshot_open(directory, "empty.state", &from, &error), DIDI_FORMAT);
    support_write(directory, "text.state", "not a state file at all", 23);
    assert_int_equal(snapshot_open(directory, "text.state", &from, &error), DIDI_FORMAT);
    assert_int_equal(save(directory, "cut.state", false, &error), DIDI_OK);
    int fd = openat(directory, "cut.state", O_RDWR | O_CLOEXEC);
    off_t end = lseek(fd, 0, SEEK_END);
    assert_int_equal(ftruncate(fd, end - 1), 0);
    close(fd);
    assert_int_equal(snapshot_open(directory, "cut.state", &from, &error), DIDI_FORMAT);
    assert_null(from);
}

static void a_newer_file_replaces_the_older(void **context)
{
    int directory = support_directory(context);
    static const double other[] = {7};
    static const snapshot_entry fresh[] = {{"other", DIDI_DTYPE_F64, 1, 1, other}};
    didi_error error = {0};
    snapshot *old = NULL;
    snapshot *from = NULL;
    const void *data = NULL;
    assert_int_equal(save(directory, "a.state", true, &error), DIDI_OK);
    assert_int_equal(snapshot_open(directory, "a.state", &old, &error), DIDI_OK);
    assert_int_equal(snapshot_save(directory, "a.state", fresh, 1, true, &error), DIDI_OK);
    assert_int_equal(snapshot_open(directory, "a.state", &from, &error), DIDI_OK);
    assert_int_equal(snapshot_find(from, "other", DIDI_DTYPE_F64, 1, NULL, &data, &error), DIDI_OK);
    assert_memory_equal(data, other, sizeof other);
    /* who has the old one open still sees it */
    assert_int_equal(snapshot_find(old, "values", DIDI_DTYPE_F64, 2, NULL, &data, &error), DIDI_OK);
    assert_memory_equal(data, values, sizeof values);
    snapshot_close(old);
    snapshot_close(from);
    assert_int_equal(support_entries(directory), 1);
}

static void a_failed_save_leaves_nothing(void **context)
{
    int directory = support_directory(context);
    static const char *const points[] = {"alloc", "pwrite", "fsync", "rename"};
    for (size_t p = 0; p < 4; p++)
        for (int nth = 1; nth < 100; nth++) {
            char fault[32];
            didi_error error = {0};
            (void)snprintf(fault, sizeof fault, "%s:%d", points[p], nth);
            assert_int_equal(fault_arm(fault), 0);
            int status = save(directory, "a.state", true, &error);
            bool fired = fault_all_fired();
            assert_int_equal(fault_arm(NULL), 0);
            int wanted = p == 0 ? DIDI_NO_MEMORY : DIDI_IO;
            assert_int_equal(status, fired ? wanted : DIDI_OK);
            /* only the directory's own fsync comes after the rename */
            assert_int_equal(support_entries(directory), support_exists(directory, "a.state"));
            assert_true(p == 2 || !fired || !support_exists(directory, "a.state"));
            (void)unlinkat(directory, "a.state", 0);
            if (!fired)
                break;
        }
}

static void no_memory_to_open_is_told(void **context)
{
    int directory = support_directory(context);
    didi_error error = {0};
    bool fired = true;
    assert_int_equal(save(directory, "a.state", false, &error), DIDI_OK);
    for (int nth = 1; fired; nth++) {
        char fault[32];
        snapshot *from = NULL;
        (void)snprintf(fault, sizeof fault, "alloc:%d", nth);
        assert_int_equal(fault_arm(fault), 0);
        int status = snapshot_open(directory, "a.state", &from, &error);
        fired = fault_all_fired();
        assert_int_equal(fault_arm(NULL), 0);
        assert_int_equal(status, fired ? DIDI_NO_MEMORY : DIDI_OK);
        snapshot_close(from);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        support_test(arrays_come_back),
        support_test(what_does_not_fit_is_refused),
        support_test(a_broken_file_is_refused),
        support_test(a_newer_file_replaces_the_older),
        support_test(a_failed_save_leaves_nothing),
        support_test(no_memory_to_open_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
