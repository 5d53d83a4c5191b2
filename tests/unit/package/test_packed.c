/* SPDX-License-Identifier: Apache-2.0 */
/* Packed matrices: known bytes, round trips of every precision, hostile bytes. */
#include "src/math/random.h"
#include "src/package/packed.h"
#include "tests/unit/sample_layer.h"
#include "tests/unit/sample_summary.h"
#include "tests/unit/support.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { M = 70, N = 37, RANK = 21 };

static const uint8_t mixed[RANK] = {8, 8, 8, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 3, 1, 1};

typedef struct sample {
    float left[RANK * M], right[RANK * N], dense[M * N];
    uint8_t *bytes;
    size_t count;
} sample;

static void sample_draw(sample *self)
{
    random_normal(1, self->left, (size_t)RANK * M, 1);
    random_normal(2, self->right, (size_t)RANK * N, 1);
    random_normal(3, self->dense, (size_t)M * N, 1);
}

static sample sample_factors(void)
{
    sample self;
    sample_draw(&self);
    self.count = packed_factors_bytes(M, N, mixed, RANK);
    self.bytes = support_allocate(self.count);
    packed_factors_encode(M, N, mixed, RANK, self.left, self.right, self.bytes);
    return self;
}

static sample sample_dense(unsigned bits)
{
    sample self;
    sample_draw(&self);
    self.count = packed_dense_bytes(M, N, bits);
    self.bytes = support_allocate(self.count);
    packed_dense_begin(bits, self.bytes);
    for (size_t first = 0; first < M; first += 7)
        packed_dense_rows(N, bits, self.dense + first * N, 7,
                          self.bytes + PACKED_DENSE_HEADER_BYTES +
                              first * quantise_row_bytes(N, bits));
    return self;
}

static void *help(void *argument)
{
    parallel_help(argument, parallel_epoch(argument));
    return NULL;
}

static void helpers_change_no_byte(void **state)
{
    (void)state;
    enum { ROWS = 3001, COLUMNS = 2003, COMPONENTS = 41 };
    uint8_t bits[COMPONENTS];
    for (size_t i = 0; i < COMPONENTS; i++)
        bits[i] = i < 5 ? 8 : i < 30 ? 4 : PACKED_TRELLIS + 2;
    size_t count = packed_factors_bytes(ROWS, COLUMNS, bits, COMPONENTS);
    float *left = support_allocate((size_t)COMPONENTS * ROWS * sizeof *left);
    float *right = support_allocate((size_t)COMPONENTS * COLUMNS * sizeof *right);
    uint8_t *alone = support_allocate(count);
    uint8_t *together = support_allocate(count);
    random_normal(5, left, (size_t)COMPONENTS * ROWS, 1);
    random_normal(6, right, (size_t)COMPONENTS * COLUMNS, 3);
    packed_factors_encode(ROWS, COLUMNS, bits, COMPONENTS, left, right, alone);
    parallel *crew = NULL;
    didi_error error = {0};
    pthread_t helpers[2];
    assert_int_equal(parallel_create(&crew, &error), DIDI_OK);
    parallel_enter(crew);
    for (size_t i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&helpers[i], NULL, help, crew), 0);
    packed_factors of = {ROWS, COLUMNS, COMPONENTS, bits, left, right};
    packed_factors_share(crew, &of, together);
    parallel_leave(crew);
    for (size_t i = 0; i < 2; i++)
        assert_int_equal(pthread_join(helpers[i], NULL), 0);
    parallel_free(crew);
    assert_memory_equal(alone, together, count);
    free(left);
    free(right);
    free(alone);
    free(together);
}

static void bytes_are_the_documented_ones(void **state)
{
    (void)state;
    /* m = 2, n = 3: a component of 4 bits, one of 1 bit */
    static const uint8_t bits[] = {4, 1};
    static const float left[] = {7.5F, -7.5F, 1, 1};
    static const float right[] = {15, 13, -15, 2, -2, 2};
    static const uint8_t expected[] = {
        0x61, 3,    4,    2,       /* factors in 64s; levels of left below 8, of right below 16 */
        4,    1,    0,    0,    0, /* 4 bits, 1 component */
        1,    1,    0,    0,    0, /* 1 bit, 1 component */
        0x0F, 0xFE, 0xEF, 0x00, 0xFE, /* codes 15 0, level 7.5; 15 14 0, level 15 */
        0x03, 0xD0, 0x05, 0xD0,       /* 1 1, level 1; 1 0 1, level 2 */
    };
    uint8_t bytes[sizeof expected];
    assert_int_equal(packed_factors_bytes(2, 3, bits, 2), sizeof expected);
    packed_factors_encode(2, 3, bits, 2, left, right, bytes);
    for (size_t i = 0; i < sizeof expected; i++)
        assert_int_equal(bytes[i], expected[i]);
    packed found;
    didi_error error = {0};
    float matrix[6] = {0};
    static const float product[] = {114.5F, 95.5F, -110.5F, -110.5F, -99.5F, 114.5F};
    assert_int_equal(packed_parse(bytes, sizeof bytes, 2, 3, "x", &found, &error), DIDI_OK);
    assert_int_equal(packed_add(&found, 0, 2, matrix, &error), DIDI_OK);
    assert_memory_equal(matrix, product, sizeof product);
}

/* Beside grids of more bits: each row comes back as packed_row_round says, and sums are products.
 */
static void trellis_rows_come_back(void **state)
{
    (void)state;
    static const uint8_t widths[] = {6, PACKED_TRELLIS + 4, PACKED_TRELLIS + 2, PACKED_TRELLIS + 1};
    enum { COUNT = sizeof widths };
    sample self;
    sample_draw(&self);
    self.count = packed_factors_bytes(M, N, widths, COUNT);
    self.bytes = support_allocate(self.count);
    packed_factors_encode(M, N, widths, COUNT, self.left, self.right, self.bytes);
    packed found;
    didi_error error = {0};
    sample_must(packed_parse(self.bytes, self.count, M, N, "x", &found, &error), &error);
    assert_int_equal(found.rank, COUNT);
    uint8_t *room = support_allocate(packed_row_room(M));
    double sum = 0;
    float matrix[M * N] = {0};
    sample_must(packed_add(&found, 0, M, matrix, &error), &error);
    for (size_t i = 0; i < COUNT; i++) {
        float column[M];
        float row[N];
        float expected[M];
        packed_left(&found, i, column);
        packed_row_round(self.left + i * M, M, widths[i], room, expected);
        assert_memory_equal(column, expected, sizeof column);
        packed_right(&found, i, row);
        packed_row_round(self.right + i * N, N, widths[i], room, expected);
        assert_memory_equal(row, expected, sizeof row);
        sum += (double)column[3] * (double)row[5];
    }
    assert_true(fabs((double)matrix[3 * N + 5] - sum) < 1e-5);
    for (unsigned bits = 0; bits < 256; bits++) { /* of the last segment */
        bool fits = bits == PACKED_TRELLIS + 1;
        self.bytes[PACKED_FACTORS_HEADER_BYTES + 3 * PACKED_SEGMENT_BYTES] = (uint8_t)bits;
        assert_int_equal(packed_parse(self.bytes, self.count, M, N, "x", &found, &error),
                         fits ? DIDI_OK : DIDI_FORMAT);
    }
    free(room);
    free(self.bytes);
}

static void dense_bytes_are_the_documented_ones(void **state)
{
    (void)state;
    static const float rows[] = {3, -1, 1, 0, 0, 0};
    static const uint8_t expected[] = {
        0x62, 2,          /* dense in 64s, 2 bits */
        0x02, 0x27, 0xF8, /* below 4; codes 3 1 2, level 3 */
        0x9C, 0x2A, 0x00, /* below 2^-100; codes 2 2 2, level 0 */
    };
    uint8_t bytes[sizeof expected];
    assert_int_equal(packed_dense_bytes(2, 3, 2), sizeof expected);
    packed_dense_begin(2, bytes);
    packed_dense_rows(3, 2, rows, 2, bytes + PACKED_DENSE_HEADER_BYTES);
    for (size_t i = 0; i < sizeof expected; i++)
        assert_int_equal(bytes[i], expected[i]);
}

static void factors_come_back_in_their_precision(void **state)
{
    (void)state;
    sample self = sample_factors();
    packed found;
    didi_error error = {0};
    sample_must(packed_parse(self.bytes, self.count, M, N, "x", &found, &error), &error);
    assert_int_equal(found.rank, RANK);
    assert_int_equal(found.segment_count, 4);
    assert_false(found.dense);
    float *sum = support_allocate((size_t)M * N * sizeof *sum);
    float *parts = support_allocate((size_t)M * N * sizeof *sum);
    for (size_t i = 0; i < RANK; i++) {
        float column[M];
        float row[N];
        float expected[M];
        uint8_t packed_row[3 * M];
        packed_left(&found, i, column);
        quantise_row(self.left + i * M, M, mixed[i], packed_row);
        dequantise_row(packed_row, M, mixed[i], expected);
        assert_memory_equal(column, expected, sizeof column);
        packed_right(&found, i, row);
        quantise_row(self.right + i * N, N, mixed[i], packed_row);
        dequantise_row(packed_row, N, mixed[i], expected);
        assert_memory_equal(row, expected, sizeof row);
        for (size_t e = 0; e < (size_t)M * N; e++)
            sum[e] += column[e / N] * row[e % N];
    }
    for (size_t first = 0; first < M; first += 16)
        sample_must(
            packed_add(&found, first, M - first < 16 ? M - first : 16, parts + first * N, &error),
            &error);
    for (size_t e = 0; e < (size_t)M * N; e++)
        sample_assert_near((double)parts[e], (double)sum[e], 1e-4);
    free(sum);
    free(parts);
    free(self.bytes);
}

static void dense_rows_come_back_in_every_precision(void **state)
{
    (void)state;
    for (unsigned bits = 1; bits <= QUANTISE_BITS_MAX; bits++) {
        sample self = sample_dense(bits);
        packed found;
        didi_error error = {0};
        sample_must(packed_parse(self.bytes, self.count, M, N, "x", &found, &error), &error);
        assert_true(found.dense);
        assert_int_equal(found.rank, M);
        float some[5 * N];
        for (size_t i = 0; i < (size_t)5 * N; i++)
            some[i] = 1;
        sample_must(packed_add(&found, 11, 5, some, &error), &error);
        double missed = 0;
        double energy = 0;
        for (size_t i = 0; i < (size_t)5 * N; i++) {
            double value = (double)self.dense[(size_t)11 * N + i];
            missed += pow((double)some[i] - 1 - value, 2);
            energy += value * value;
        }
        assert_true(missed <= 1.5 * quantise_noise(bits) * energy);
        free(self.bytes);
    }
}

static void expect_format(const sample *self, size_t count, size_t m, size_t n)
{
    packed found = {.m = 99};
    didi_error error = {0};
    uint8_t *copy = support_allocate(count);
    memcpy(copy, self->bytes, count < self->count ? count : self->count);
    assert_int_equal(packed_parse(copy, count, m, n, "blocks.weight", &found, &error), DIDI_FORMAT);
    assert_string_equal(error.subject, "blocks.weight");
    assert_int_equal(found.m, 99);
    free(copy);
}

static void other_lengths_and_shapes_are_refused(void **state)
{
    (void)state;
    sample kinds[] = {sample_factors(), sample_dense(3)};
    for (size_t k = 0; k < 2; k++) {
        for (size_t count = 0; count < kinds[k].count; count++)
            expect_format(&kinds[k], count, M, N);
        expect_format(&kinds[k], kinds[k].count + 1, M, N);
        expect_format(&kinds[k], kinds[k].count, M, N + 1);
        expect_format(&kinds[k], kinds[k].count, 0, N);
        expect_format(&kinds[k], kinds[k].count, M, 0);
        expect_format(&kinds[k], kinds[k].count, SIZE_MAX, SIZE_MAX);
        expect_format(&kinds[k], kinds[k].count, (size_t)1 << 31, 1);
        free(kinds[k].bytes);
    }
}

/* Sets one byte, expects a refusal, and puts it back. */
static void expect_byte_refused(const sample *self, size_t at, uint8_t value)
{
    uint8_t before = self->bytes[at];
    assert_int_not_equal(before, value);
    self->bytes[at] = value;
    expect_format(self, self->count, M, N);
    self->bytes[at] = before;
}

static void headers_that_make_no_sense_are_refused(void **state)
{
    (void)state;
    sample self = sample_factors();
    for (unsigned start = 0; start < 256; start++)
        if (start != 0x61)
            expect_byte_refused(&self, 0, (uint8_t)start);
    for (unsigned segments = 0; segments < 256; segments++)
        if (segments != 4)
            expect_byte_refused(&self, 3, (uint8_t)segments);
    for (unsigned bits = 0; bits < 256; bits++)
        if (bits != 8)
            expect_byte_refused(&self, 4, (uint8_t)bits);
    expect_byte_refused(&self, 9, 8);   /* the second segment as precise as the first */
    expect_byte_refused(&self, 5, 0);   /* no components */
    expect_byte_refused(&self, 5, 4);   /* more than there are */
    expect_byte_refused(&self, 8, 255); /* more than any matrix has */
    free(self.bytes);
    sample dense = sample_dense(2);
    for (unsigned bits = 0; bits < 256; bits++)
        if (bits != 2)
            expect_byte_refused(&dense, 1, (uint8_t)bits);
    expect_byte_refused(&dense, 0, 0x61);
    free(dense.bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(helpers_change_no_byte),
        cmocka_unit_test(bytes_are_the_documented_ones),
        cmocka_unit_test(trellis_rows_come_back),
        cmocka_unit_test(dense_bytes_are_the_documented_ones),
        cmocka_unit_test(factors_come_back_in_their_precision),
        cmocka_unit_test(dense_rows_come_back_in_every_precision),
        cmocka_unit_test(other_lengths_and_shapes_are_refused),
        cmocka_unit_test(headers_that_make_no_sense_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
