/* SPDX-License-Identifier: Apache-2.0 */
/* Durable file operations, with the faults a disk can have. */
#include "src/base/fault.h"
#include "src/base/file.h"
#include "src/base/memory.h"
#include "tests/unit/support.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void assert_text(int directory, const char *name, const char *expected)
{
    char *text = NULL;
    size_t bytes = 0;
    didi_error error = {0};
    assert_int_equal(file_read_text(directory, name, 1 << 20, &text, &bytes, &error), DIDI_OK);
    assert_int_equal(bytes, strlen(expected));
    assert_string_equal(text, expected);
    free(text);
}

static void a_durable_write_is_read_back(void **state)
{
    int directory = support_directory(state);
    didi_error error = {0};
    assert_int_equal(file_write_durable(directory, "a", "one", 3, &error), DIDI_OK);
    assert_text(directory, "a", "one");
    assert_int_equal(file_write_durable(directory, "a", "", 0, &error), DIDI_OK);
    assert_text(directory, "a", "");
    assert_int_equal(support_entries(directory), 1);
    struct stat facts;
    assert_int_equal(fstatat(directory, "a", &facts, 0), 0);
    assert_int_equal(facts.st_mode & 07777 & ~0640u, 0);
    assert_int_equal(file_write_durable(directory, "x/a", "", 0, &error), DIDI_INVALID);
    assert_int_equal(file_write_durable(directory, "..", "", 0, &error), DIDI_INVALID);
}

static void a_failed_durable_write_leaves_the_old_file(void **state)
{
    int directory = support_directory(state);
    static const struct {
        const char *fault;
        int status;
        const char *left; /* the last fsync, of the directory, comes after the rename */
    } cases[] = {
        {"pwrite:1:ENOSPC", DIDI_DISK_FULL, "old"},
        {"pwrite:1", DIDI_IO, "old"},
        {"fsync:1", DIDI_IO, "old"},
        {"fsync:1:EDQUOT", DIDI_DISK_FULL, "old"},
        {"rename:1", DIDI_IO, "old"},
        {"fsync:2", DIDI_IO, "new"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        didi_error error = {0};
        assert_int_equal(file_write_durable(directory, "a", "old", 3, &error), DIDI_OK);
        assert_int_equal(fault_arm(cases[i].fault), 0);
        assert_int_equal(file_write_durable(directory, "a", "new", 3, &error), cases[i].status);
        assert_true(fault_all_fired());
        (void)fault_arm(NULL);
        support_assert_contains(error.subject, "a");
        assert_text(directory, "a", cases[i].left);
        assert_int_equal(support_entries(directory), 1);
    }
}

static void texts_are_read_within_limits(void **state)
{
    int directory = support_directory(state);
    didi_error error = {0};
    char *text = NULL;
    size_t bytes = 0;
    support_write(directory, "a", "12345", 5);
    assert_int_equal(file_read_text(directory, "a", 5, &text, &bytes, &error), DIDI_OK);
    free(text);
    text = NULL;
    assert_int_equal(file_read_text(directory, "a", 4, &text, &bytes, &error), DIDI_FORMAT);
    support_assert_contains(error.message, "5 bytes");
    assert_int_equal(file_read_text(directory, "b", 4, &text, &bytes, &error), DIDI_NOT_FOUND);
    assert_string_equal(error.subject, "b");
    assert_int_equal(mkfifoat(directory, "f", 0600), 0);
    assert_int_equal(file_read_text(directory, "f", 4, &text, &bytes, &error), DIDI_FORMAT);
    assert_int_equal(fault_arm("alloc:1"), 0);
    assert_int_equal(file_read_text(directory, "a", 5, &text, &bytes, &error), DIDI_NO_MEMORY);
    assert_null(text);
}

static void reads_and_writes_are_whole_or_fail(void **state)
{
    int directory = support_directory(state);
    didi_error error = {0};
    int fd = openat(directory, "a", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    char buffer[8] = {0};
    assert_int_equal(file_pwrite_all(fd, "abcdef", 6, 2, "a", &error), DIDI_OK);
    assert_int_equal(file_pread_all(fd, buffer, 8, 0, "a", &error), DIDI_OK);
    assert_memory_equal(buffer, "\0\0abcdef", 8);
    assert_int_equal(file_pread_all(fd, buffer, 8, 1, "a", &error), DIDI_CHANGED);
    support_assert_contains(error.message, "ends at byte 8");
    assert_int_equal(file_pread_all(fd, buffer, 8, UINT64_MAX - 3, "a", &error), DIDI_IO);
    assert_int_equal(file_pwrite_all(fd, buffer, 8, INT64_MAX, "a", &error), DIDI_IO);
    close(fd);
    fd = openat(directory, "a", O_RDONLY | O_CLOEXEC);
    assert_int_equal(file_pwrite_all(fd, "x", 1, 0, "a", &error), DIDI_IO);
    close(fd);
}

static void links_are_followed_only_beneath(void **state)
{
    int directory = support_directory(state);
    didi_error error = {0};
    int fd = -1;
    support_write(directory, "a", "1", 1);
    assert_int_equal(mkdirat(directory, "sub", 0700), 0);
    assert_int_equal(symlinkat("a", directory, "inside"), 0);
    assert_int_equal(symlinkat("/etc/passwd", directory, "absolute"), 0);
    assert_int_equal(symlinkat("../../etc/passwd", directory, "relative"), 0);
    assert_int_equal(symlinkat("loop", directory, "loop"), 0);
    assert_int_equal(mkfifoat(directory, "fifo", 0600), 0);
    static const struct {
        const char *name;
        int status;
    } cases[] = {
        {"a", DIDI_OK},
        {"inside", DIDI_OK},
        {"missing", DIDI_NOT_FOUND},
        {"absolute", DIDI_FORMAT},
        {"relative", DIDI_FORMAT},
        {"loop", DIDI_FORMAT},
        {"fifo", DIDI_FORMAT},
        {"sub", DIDI_FORMAT},
        {"..", DIDI_FORMAT},
        {"sub/../a", DIDI_FORMAT},
        {"", DIDI_FORMAT},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int status = file_open_beneath(directory, cases[i].name, "model/x", &fd, &error);
        assert_int_equal(status, cases[i].status);
        if (status == DIDI_OK)
            close(fd);
        else
            assert_string_equal(error.subject, "model/x");
    }
}

static void directories_are_created_and_opened(void **state)
{
    int directory = support_directory(state);
    didi_error error = {0};
    int fd = -1;
    assert_int_equal(file_open_directory(directory, "d", 0, &fd, &error), DIDI_NOT_FOUND);
    assert_int_equal(file_open_directory(directory, "d", 1, &fd, &error), DIDI_OK);
    close(fd);
    assert_int_equal(file_open_directory(directory, "d", 1, &fd, &error), DIDI_OK);
    assert_int_equal(file_sync(fd, "d", &error), DIDI_OK);
    close(fd);
    support_write(directory, "file", "", 0);
    assert_int_equal(file_open_directory(directory, "file", 1, &fd, &error), DIDI_NOT_FOUND);
}

static void trees_are_removed_without_following_links(void **state)
{
    int directory = support_directory(state);
    didi_error error = {0};
    support_write(directory, "kept", "1", 1);
    assert_int_equal(mkdirat(directory, "outside", 0700), 0);
    support_write(directory, "outside/kept", "1", 1);
    assert_int_equal(mkdirat(directory, "tree", 0700), 0);
    assert_int_equal(mkdirat(directory, "tree/a", 0700), 0);
    support_write(directory, "tree/a/file", "1", 1);
    assert_int_equal(symlinkat("../outside", directory, "tree/link"), 0);
    assert_int_equal(file_remove_tree(directory, "tree", &error), DIDI_OK);
    assert_int_equal(support_entries(directory), 2);
    assert_true(support_exists(directory, "outside/kept"));
    assert_int_equal(file_remove_tree(directory, "tree", &error), DIDI_OK);
    assert_int_equal(file_remove_tree(directory, "kept", &error), DIDI_OK);
    static const char *const refused[] = {"", ".", "..", "a/../b", "outside/", "/"};
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
        assert_int_equal(file_remove_tree(directory, refused[i], &error), DIDI_INVALID);
}

static void trees_too_deep_are_refused(void **state)
{
    int directory = support_directory(state);
    didi_error error = {0};
    char path[] = "d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d";
    for (size_t length = 1; length < sizeof(path); length += 2) {
        path[length] = '\0';
        assert_int_equal(mkdirat(directory, path, 0700), 0);
        path[length] = '/';
    }
    assert_int_equal(file_remove_tree(directory, "d", &error), DIDI_INVALID);
    assert_int_equal(file_remove_tree(directory, "d/d/d", &error), DIDI_OK);
}

static int count_down(void *context)
{
    int *left = context;
    return (*left)-- == 0;
}

static void digests_are_those_of_fips_180(void **state)
{
    int directory = support_directory(state);
    didi_error error = {0};
    char *million = support_allocate(1000000);
    memset(million, 'a', 1000000);
    const struct {
        const char *text;
        size_t bytes;
        const char *hex;
    } cases[] = {
        {"", 0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
        {"abc", 3, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
        {million, 1000000, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        support_write(directory, "f", cases[i].text, cases[i].bytes);
        int fd = openat(directory, "f", O_RDONLY | O_CLOEXEC);
        char hex[65] = "untouched";
        uint64_t bytes = 0;
        assert_int_equal(file_sha256(fd, NULL, NULL, hex, &bytes, "f", &error), DIDI_OK);
        assert_string_equal(hex, cases[i].hex);
        assert_int_equal(bytes, cases[i].bytes);
        close(fd);
    }
    free(million);
}

static void hashing_can_be_cancelled(void **state)
{
    int directory = support_directory(state);
    didi_error error = {0};
    int fd = openat(directory, "f", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(ftruncate(fd, 40 << 20), 0);
    char hex[65] = "untouched";
    int left = 1;
    assert_int_equal(file_sha256(fd, count_down, &left, hex, NULL, "f", &error), DIDI_CANCELLED);
    assert_string_equal(hex, "untouched");
    left = 3; /* asked at 0, 16 and 32 MiB only */
    assert_int_equal(file_sha256(fd, count_down, &left, hex, NULL, "f", &error), DIDI_OK);
    assert_int_equal(left, 0);
    close(fd);
    assert_int_equal(fault_arm("alloc:1"), 0);
    assert_int_equal(file_sha256(fd, NULL, NULL, hex, NULL, "f", &error), DIDI_NO_MEMORY);
    (void)fault_arm(NULL);
    assert_int_equal(file_sha256(-1, NULL, NULL, hex, NULL, "f", &error), DIDI_IO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        support_test(a_durable_write_is_read_back),
        support_test(a_failed_durable_write_leaves_the_old_file),
        support_test(texts_are_read_within_limits),
        support_test(reads_and_writes_are_whole_or_fail),
        support_test(links_are_followed_only_beneath),
        support_test(directories_are_created_and_opened),
        support_test(trees_are_removed_without_following_links),
        support_test(trees_too_deep_are_refused),
        support_test(digests_are_those_of_fips_180),
        support_test(hashing_can_be_cancelled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
