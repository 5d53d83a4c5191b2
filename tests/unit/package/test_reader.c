/* SPDX-License-Identifier: Apache-2.0 */
/* Packages written by hand: plain and packed parts add up, and misfits are refused. */
#include "src/base/file.h"
#include "src/files/safetensors.h"
#include "src/math/random.h"
#include "src/package/reader.h"
#include "tests/unit/sample_layer.h"
#include "tests/unit/sample_summary.h"
#include "tests/unit/support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { M = 33, N = 70, RANK = 5, TENSORS_MAX = 8 };

/* One tensor of a file. */
typedef struct content {
    const char *name;
    didi_dtype dtype;
    uint64_t shape[2];
    const void *data; /* float32 values, or bytes of U8 */
} content;

static void write_file(int directory, const char *name, const content *rows, size_t count)
{
    safetensors_layout_entry entries[TENSORS_MAX];
    safetensors_writer *writer = NULL;
    didi_error error = {0};
    for (size_t i = 0; i < count; i++)
        entries[i] = (safetensors_layout_entry){rows[i].name, rows[i].dtype,
                                                rows[i].shape[1] ? 2 : 1, rows[i].shape};
    (void)unlinkat(directory, name, 0);
    safetensors_contents contents = {.entries = entries, .count = count};
    sample_must(safetensors_writer_create(directory, name, &contents, &writer, &error), &error);
    for (size_t i = 0; i < count; i++) {
        uint64_t elements = rows[i].shape[0] * (rows[i].shape[1] ? rows[i].shape[1] : 1);
        int status = rows[i].dtype == DIDI_DTYPE_U8
                         ? safetensors_writer_put_bytes(writer, rows[i].name, 0, rows[i].data,
                                                        elements, &error)
                         : safetensors_writer_put_f32(writer, rows[i].name, 0, rows[i].data,
                                                      elements, &error);
        sample_must(status, &error);
    }
    sample_must(safetensors_writer_close(writer, false, &error), &error);
}

typedef struct numbers {
    float left[RANK * M], right[RANK * N], dense[M * N]; /* left: columns of B as rows */
    float plain[M * RANK];                               /* B itself */
    uint8_t *factors, *delta;
    size_t factor_bytes, delta_bytes;
} numbers;

static void draw(numbers *self, const uint8_t *bits, unsigned dense_bits)
{
    random_normal(1, self->left, (size_t)RANK * M, 1);
    random_normal(2, self->right, (size_t)RANK * N, 1);
    random_normal(3, self->dense, (size_t)M * N, 1);
    for (size_t i = 0; i < (size_t)M * RANK; i++)
        self->plain[i] = self->left[i % RANK * M + i / RANK];
    self->factor_bytes = packed_factors_bytes(M, N, bits, RANK);
    self->factors = support_allocate(self->factor_bytes);
    packed_factors_encode(M, N, bits, RANK, self->left, self->right, self->factors);
    self->delta_bytes = packed_dense_bytes(M, N, dense_bits);
    self->delta = support_allocate(self->delta_bytes);
    packed_dense_begin(dense_bits, self->delta);
    packed_dense_rows(N, dense_bits, self->dense, M, self->delta + PACKED_DENSE_HEADER_BYTES);
}

static void release(numbers *self)
{
    free(self->factors);
    free(self->delta);
}

/* B A, at full precision or as the bits give it, plus the delta likewise. */
static void expected_sum(const numbers *self, const uint8_t *bits, unsigned dense_bits, double *sum)
{
    uint8_t row[4 * N];
    float column_read[M];
    float row_read[N];
    for (size_t i = 0; i < RANK; i++) {
        memcpy(column_read, self->left + i * M, sizeof column_read);
        memcpy(row_read, self->right + i * N, sizeof row_read);
        if (bits != NULL) {
            quantise_row(column_read, M, bits[i], row);
            dequantise_row(row, M, bits[i], column_read);
            quantise_row(row_read, N, bits[i], row);
            dequantise_row(row, N, bits[i], row_read);
        }
        for (size_t e = 0; e < (size_t)M * N; e++)
            sum[e] += (double)column_read[e / N] * (double)row_read[e % N];
    }
    for (size_t r = 0; r < M; r++) {
        memcpy(row_read, self->dense + r * N, sizeof row_read);
        if (dense_bits != 0) {
            quantise_row(row_read, N, dense_bits, row);
            dequantise_row(row, N, dense_bits, row_read);
        }
        for (size_t c = 0; c < N; c++)
            sum[r * N + c] += (double)row_read[c];
    }
}

static int read_one(int directory, const char *task, const char *tensor, uint64_t m, uint64_t n,
                    addition *ret_addition, didi_error *error)
{
    package_file *file = NULL;
    int status = package_file_open(directory, task, &file, error);
    if (status == DIDI_OK)
        status = package_file_read(file, tensor, m, n, ret_addition, error);
    package_file_close(file);
    return status;
}

static void all_that_is_present_is_added(void **state)
{
    static const uint8_t bits[RANK] = {8, 4, 4, 3, 1};
    int root = support_directory(state);
    numbers parts;
    addition found;
    didi_error error = {0};
    double sum[M * N] = {0};
    float out[M * N];
    int experts = -1;
    draw(&parts, bits, 2);
    const content rows[] = {
        {"x.expert_A", DIDI_DTYPE_F32, {RANK, N}, parts.right},
        {"x.expert_B", DIDI_DTYPE_F32, {M, RANK}, parts.plain},
        {"x.delta", DIDI_DTYPE_F32, {M * N, 0}, parts.dense},
        {"x.expert_packed", DIDI_DTYPE_U8, {parts.factor_bytes, 0}, parts.factors},
        {"x.delta_packed", DIDI_DTYPE_U8, {parts.delta_bytes, 0}, parts.delta},
        {"x.shared_packed", DIDI_DTYPE_U8, {1, 0}, "not for an expert"},
    };
    sample_must(file_open_directory(root, "experts", 1, &experts, &error), &error);
    write_file(experts, "t.safetensors", rows, 6);
    sample_must(read_one(root, "t", "x", M, N, &found, &error), &error);
    assert_false(addition_is_empty(&found));
    memset(out, 0, sizeof out);
    for (size_t first = 0; first < M; first += 10)
        sample_must(
            addition_apply(&found, first, M - first < 10 ? M - first : 10, out + first * N, &error),
            &error);
    expected_sum(&parts, NULL, 0, sum);
    expected_sum(&parts, bits, 2, sum);
    for (size_t e = 0; e < (size_t)M * N; e++)
        sample_assert_near((double)out[e], sum[e], 1e-4);
    addition_clear(&found);
    addition_clear(&found);
    sample_must(read_one(root, "t", "y", M, N, &found, &error), &error);
    assert_true(addition_is_empty(&found));
    addition_clear(&found);
    close(experts);
    release(&parts);
}

/* Cut anyhow, unpacked or not, it is what addition_apply adds. */
static void pieces_are_taken_away(void **state)
{
    static const uint8_t bits[RANK] = {8, 4, 4, 3, 1};
    int root = support_directory(state);
    numbers parts;
    addition found;
    didi_error error = {0};
    float whole[M * N] = {0};
    float cut[M * N] = {0};
    float again[M * N] = {0};
    draw(&parts, bits, 2);
    const content rows[] = {
        {"x.shared_A", DIDI_DTYPE_F32, {RANK, N}, parts.right},
        {"x.shared_B", DIDI_DTYPE_F32, {M, RANK}, parts.plain},
        {"x.shared_packed", DIDI_DTYPE_U8, {parts.factor_bytes, 0}, parts.factors},
        {"x.delta_packed", DIDI_DTYPE_U8, {parts.delta_bytes, 0}, parts.delta},
    };
    write_file(root, "shared.safetensors", rows, 4);
    sample_must(read_one(root, NULL, "x", M, N, &found, &error), &error);
    sample_must(addition_apply(&found, 0, M, whole, &error), &error);
    sample_must(addition_unpack(&found, &error), &error);
    assert_int_equal(found.rank, 2 * RANK);
    sample_must(addition_subtract(&found, 0, (uint64_t)M * N, cut, &error), &error);
    for (uint64_t first = 0; first < (uint64_t)M * N; first += 97) {
        uint64_t left = (uint64_t)M * N - first;
        sample_must(addition_subtract(&found, first, left < 97 ? left : 97, again + first, &error),
                    &error);
    }
    assert_memory_equal(cut, again, sizeof cut);
    for (size_t e = 0; e < (size_t)M * N; e++)
        sample_assert_near((double)whole[e], -(double)cut[e], 1e-4);
    addition_clear(&found);
    release(&parts);
}

static void expect_refused(int root, const content *rows, size_t count, int wanted)
{
    addition found;
    didi_error error = {0};
    write_file(root, "shared.safetensors", rows, count);
    assert_int_equal(read_one(root, NULL, "x", M, N, &found, &error), wanted);
    support_assert_contains(error.subject, "x");
}

static void misfits_are_refused(void **state)
{
    static const uint8_t bits[RANK] = {4, 4, 4, 4, 4};
    int root = support_directory(state);
    numbers parts;
    draw(&parts, bits, 4);
    const content half = {"x.shared_A", DIDI_DTYPE_F32, {RANK, N}, parts.right};
    const content turned[] = {half, {"x.shared_B", DIDI_DTYPE_F32, {RANK, M}, parts.plain}};
    const content narrow = {"x.delta", DIDI_DTYPE_F32, {M, N - 1}, parts.dense};
    const content short_delta = {"x.delta", DIDI_DTYPE_F32, {M * N - 1, 0}, parts.dense};
    const content wrong = {"x.delta", DIDI_DTYPE_U8, {M, N}, parts.dense};
    const content plain = {"x.shared_packed", DIDI_DTYPE_F32, {M, N}, parts.dense};
    const content cut = {
        "x.shared_packed", DIDI_DTYPE_U8, {parts.factor_bytes - 1, 0}, parts.factors};
    const content cut_delta = {
        "x.delta_packed", DIDI_DTYPE_U8, {parts.delta_bytes - 1, 0}, parts.delta};
    const content none = {"x.delta_packed", DIDI_DTYPE_U8, {0, 0}, parts.delta};
    expect_refused(root, &half, 1, DIDI_MISMATCH);
    expect_refused(root, turned, 2, DIDI_MISMATCH);
    expect_refused(root, &narrow, 1, DIDI_MISMATCH);
    expect_refused(root, &short_delta, 1, DIDI_MISMATCH);
    expect_refused(root, &wrong, 1, DIDI_FORMAT);
    expect_refused(root, &plain, 1, DIDI_FORMAT);
    expect_refused(root, &cut, 1, DIDI_FORMAT);
    expect_refused(root, &cut_delta, 1, DIDI_FORMAT);
    expect_refused(root, &none, 1, DIDI_FORMAT);
    release(&parts);
}

static void files_that_are_not_there_are_named(void **state)
{
    package_file *file = NULL;
    didi_error error = {0};
    int root = support_directory(state);
    static const char *const tasks[] = {"", ".", "../t", "a/b", "none"};
    for (size_t i = 0; i < 5; i++)
        assert_int_equal(package_file_open(root, tasks[i], &file, &error), DIDI_NOT_FOUND);
    assert_int_equal(package_file_open(root, NULL, &file, &error), DIDI_NOT_FOUND);
    assert_string_equal(error.subject, "shared.safetensors");
    support_write(root, "shared.safetensors", "no header", 9);
    assert_int_equal(package_file_open(root, NULL, &file, &error), DIDI_FORMAT);
    assert_null(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        support_test(all_that_is_present_is_added),
        support_test(pieces_are_taken_away),
        support_test(misfits_are_refused),
        support_test(files_that_are_not_there_are_named),
    };
    return cmocka_run_group_tests(tests, sample_use_one_thread, NULL);
}
