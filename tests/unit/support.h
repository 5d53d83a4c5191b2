/* SPDX-License-Identifier: Apache-2.0 */
/* What unit tests share: cmocka with what it needs, a scratch directory, file images. */
#pragma once

/* cmocka.h wants these first. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "src/base/error.h"

#include <stdbool.h>

/* Under a sanitizer all takes many times as long: tests that try many cases take fewer there. */
#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
enum { SUPPORT_SANITIZED = 1 };
#else
enum { SUPPORT_SANITIZED = 0 };
#endif

/* A fresh empty directory for one test. */
int support_setup(void **state);

/* Removes it, checks that the test closed every descriptor it opened, and disarms faults. */
int support_teardown(void **state);

/* The fd of the test's directory. */
int support_directory(void **state);

/* A test with a directory of its own. */
#define support_test(function)                                                                     \
    cmocka_unit_test_setup_teardown(function, support_setup, support_teardown)

/* `bytes` zeroed bytes; ends the program when there are none. */
void *support_allocate(size_t bytes) __attribute__((returns_nonnull));

/* printf behind the *used characters of text[0..bytes); fails the test when it does not fit. */
void support_append(char *text, size_t bytes, size_t *used, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Writes a file, replacing it. */
void support_write(int directory_fd, const char *name, const void *data, size_t bytes);

/* Writes a safetensors file: `json` as header, then `data_bytes` zeros. */
void support_write_image(int directory_fd, const char *name, const char *json, size_t data_bytes);

/* Number of entries of a directory. */
size_t support_entries(int directory_fd);

bool support_exists(int directory_fd, const char *name);

/* Next number of a splitmix64 sequence: tests are random but always the same. */
uint64_t support_random(uint64_t *sequence);

/* Fails with both texts shown unless `text` contains `part`. */
#define support_assert_contains(text, part)                                                        \
    support_assert_contains_at((text), (part), __FILE__, __LINE__)
void support_assert_contains_at(const char *text, const char *part, const char *file, int line);
