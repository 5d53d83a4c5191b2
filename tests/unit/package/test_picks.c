/* SPDX-License-Identifier: Apache-2.0 */
/* Bits and places: how many bytes they are, what of them is refused, and that any rows of what they
 * add are those of the whole. */
#include "src/math/random.h"
#include "src/package/picks.h"
#include "tests/unit/sample_layer.h"
#include "tests/unit/sample_summary.h"
#include "tests/unit/support.h"

#include <stdlib.h>
#include <string.h>

enum { M = 7, N = 13, ENTRIES = 3, BITS_BYTES = (M * N + 7) / 8, DENSE_BITS = 4 };

static void bits_fill_whole_bytes(void **state)
{
    static const uint64_t counts[][2] = {{0, 0}, {1, 1}, {8, 1}, {9, 2}, {UINT64_MAX, 1ULL << 61}};
    (void)state;
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        assert_true(bits_bytes(counts[i][0]) == counts[i][1]);
    assert_true(bits_at((const uint8_t[]){0x00, 0x04}, 10));
    assert_false(bits_at((const uint8_t[]){0xff, 0xfb}, 10));
}

static void bits_beyond_the_last_are_refused(void **state)
{
    didi_error error = {0};
    (void)state;
    for (uint64_t count = 1; count <= 16; count++) {
        uint64_t bytes = bits_bytes(count);
        for (unsigned last = 0; last < 256; last++) {
            const uint8_t bits[] = {bytes > 1 ? 0xff : (uint8_t)last, (uint8_t)last, 0};
            bool fits = last >> ((count - 1) % 8 + 1) == 0;
            assert_int_equal(bits_check(bits, bytes, count, "x.expert_mask", &error),
                             fits ? DIDI_OK : DIDI_FORMAT);
        }
        assert_string_equal(error.subject, "x.expert_mask");
        for (uint64_t wrong = 0; wrong <= 3; wrong++)
            if (wrong != bytes)
                assert_int_equal(bits_check(NULL, wrong, count, "x.expert_mask", &error),
                                 DIDI_MISMATCH);
    }
}

static void columns_ascend_in_each_row(void **state)
{
    static const struct {
        uint32_t places[4];
        int status;
    } rows[] = {
        {{0, 1, 0, 1}, DIDI_OK},     {{1, 2, 0, 2}, DIDI_OK},
        {{0, 0, 0, 1}, DIDI_FORMAT}, {{0, 1, 2, 1}, DIDI_FORMAT},
        {{0, 1, 1, 3}, DIDI_FORMAT}, {{0, UINT32_MAX, 0, 1}, DIDI_FORMAT},
    };
    didi_error error = {0};
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_int_equal(places_check(rows[i].places, 2, 2, 3, "x", &error), rows[i].status);
    assert_int_equal(places_check(NULL, 5, 0, 3, "x", &error), DIDI_OK);
}

/* ---- what they add ---- */

static void draw_bits(uint64_t seed, uint8_t *bits)
{
    float values[M * N];
    random_normal(seed, values, (size_t)M * N, 1);
    memset(bits, 0, BITS_BYTES);
    for (size_t i = 0; i < (size_t)M * N; i++)
        bits[i / 8] |= (uint8_t)((values[i] > 0) << i % 8);
}

/* A mask and places, or signs; what is masked is plain or packed. */
static void draw(picks *self, bool signs, bool plain)
{
    float *numbers = support_allocate((size_t)M * N * sizeof *numbers);
    uint8_t *bits = support_allocate(BITS_BYTES);
    didi_error error = {0};
    random_normal(1, numbers, (size_t)M * N, 1);
    draw_bits(2, bits);
    *self = (picks){.rows = M, .columns = N, .scale = 0.75F};
    *(signs ? &self->signs : &self->mask) = bits;
    if (signs || plain) {
        self->masked = numbers;
    } else {
        size_t bytes = packed_dense_bytes(M, N, DENSE_BITS);
        self->masked_bytes = support_allocate(bytes);
        packed_dense_begin(DENSE_BITS, self->masked_bytes);
        packed_dense_rows(N, DENSE_BITS, numbers, M,
                          self->masked_bytes + PACKED_DENSE_HEADER_BYTES);
        free(numbers);
        sample_must(
            packed_parse(self->masked_bytes, bytes, M, N, "x", &self->masked_packed, &error),
            &error);
    }
    if (signs)
        return;
    self->entries = ENTRIES;
    self->places = support_allocate((size_t)M * ENTRIES * sizeof *self->places);
    self->values = support_allocate((size_t)M * ENTRIES * sizeof *self->values);
    for (uint32_t i = 0; i < M * ENTRIES; i++) {
        self->places[i] = i / ENTRIES + 2 * (i % ENTRIES);
        self->values[i] = (float)i;
    }
}

static void expect(const picks *self, double sum[M][N])
{
    for (size_t i = 0; i < M; i++) {
        float row[N] = {0};
        if (self->masked_bytes != NULL)
            packed_right(&self->masked_packed, i, row);
        for (size_t j = 0; j < N; j++) {
            bool bit = bits_at(self->signs != NULL ? self->signs : self->mask, i * N + j);
            double masked = (double)(self->masked != NULL ? self->masked[i * N + j] : row[j]);
            sum[i][j] = 1 + (self->signs != NULL ? (bit ? 0.75 : -0.75) : bit * 0.75 * masked);
        }
        for (size_t k = 0; k < self->entries; k++)
            sum[i][self->places[i * ENTRIES + k]] += (double)self->values[i * ENTRIES + k];
    }
}

static void any_rows_are_those_of_the_whole(void **state)
{
    (void)state;
    for (size_t kind = 0; kind < 3; kind++) {
        picks self;
        double wanted[M][N];
        didi_error error = {0};
        draw(&self, kind == 0, kind == 1);
        expect(&self, wanted);
        assert_false(picks_are_empty(&self));
        for (uint64_t first = 0; first < M; first++)
            for (uint64_t rows = 0; rows <= M - first; rows++) {
                float out[M * N];
                for (size_t i = 0; i < (size_t)M * N; i++)
                    out[i] = 1;
                sample_must(picks_add(&self, first, rows, out, &error), &error);
                for (size_t i = 0; i < (size_t)M * N; i++)
                    sample_assert_near((double)out[i],
                                       i < rows * N ? wanted[first + i / N][i % N] : 1, 1e-5);
            }
        picks_clear(&self);
        assert_true(picks_are_empty(&self));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        support_test(bits_fill_whole_bytes),
        support_test(bits_beyond_the_last_are_refused),
        support_test(columns_ascend_in_each_row),
        support_test(any_rows_are_those_of_the_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
