/* SPDX-License-Identifier: Apache-2.0 */
/* Task vectors held as factors against the same ones as matrices. */
#include "src/base/base.h"
#include "src/math/math.h"
#include "src/package/package.h"
#include "tests/unit/sample_layer.h"
#include "tests/unit/support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 70, COLUMNS = 130, TASKS = 4 };

static const double weights[TASKS] = {1, 0.5, 2, 0};

static void must(int status, const didi_error *error)
{
    if (status != DIDI_OK)
        fail_msg("%s: %s", didi_status_name(status), error->message);
}

/* What the other layer has, as matrices. */
static layer *dense_of(const layer *from)
{
    layer *made = NULL;
    didi_error error = {0};
    must(layer_create(from->rows, from->columns, from->tasks, &made, &error), &error);
    for (size_t t = 0; t < from->tasks; t++)
        must(layer_read_rows(from, t, 0, from->rows, layer_tau(made, t), &error), &error);
    must(layer_measure(made, &error), &error);
    made->seed = from->seed;
    layer_set_weights(made, from->weight);
    return made;
}

/* Factors of ranks 3, 0 and 5, and a matrix where `mixed`. */
static layer *sample_factored(bool mixed)
{
    const size_t rank[TASKS] = {3, 0, mixed ? LAYER_DENSE : 4, 5};
    layer *made = NULL;
    didi_error error = {0};
    must(layer_create_factored(ROWS, COLUMNS, TASKS, rank, NULL, &made, &error), &error);
    size_t count = made->factors->first[TASKS];
    random_normal(1, made->factors->left, count * ROWS, 0.3F);
    random_normal(2, made->factors->right, count * COLUMNS, 0.3F);
    if (mixed)
        random_normal(3, layer_tau(made, 2), ROWS * COLUMNS, 0.1F);
    must(layer_measure(made, &error), &error);
    made->seed = 7;
    layer_set_weights(made, weights);
    return made;
}

static void assert_close(const float *one, const float *two, size_t count)
{
    double size = sqrt(linalg_energy(two, count) / (double)count);
    for (size_t i = 0; i < count; i++)
        sample_assert_near((double)one[i], (double)two[i], 1e-5 * (size + 1));
}

static void check_products(const layer *factored, const layer *dense)
{
    enum { BASIS = 6, LONG = COLUMNS };
    float in[BASIS * LONG];
    float one[BASIS * LONG];
    float two[BASIS * LONG];
    didi_error error = {0};
    random_normal(5, in, BASIS * LONG, 1);
    for (size_t j = 0; j <= TASKS; j++)
        for (int transpose = 0; transpose < 2; transpose++) {
            must(layer_apply(factored, j, transpose, BASIS, in, one, &error), &error);
            must(layer_apply(dense, j, transpose, BASIS, in, two, &error), &error);
            assert_close(one, two, (size_t)BASIS * (transpose ? ROWS : COLUMNS));
        }
    for (size_t t = 0; t < TASKS; t++)
        sample_assert_near(factored->energy[t], dense->energy[t], 1e-6 * dense->energy[t]);
}

static void products_are_those_of_matrices(void **state)
{
    (void)state;
    for (int mixed = 0; mixed < 2; mixed++) {
        layer *factored = sample_factored(mixed);
        layer *dense = dense_of(factored);
        assert_true(factored->dense_tasks == (size_t)mixed && !layer_is_streamed(factored));
        assert_true((factored->tau == NULL) == !mixed && (factored->mean == NULL) == !mixed);
        assert_true(factored->energy[1] == 0);
        check_products(factored, dense);
        layer_free(factored);
        layer_free(dense);
    }
}

static void blocks_lose_the_same(void **state)
{
    (void)state;
    const size_t basis[TASKS] = {3, 2, 3, 3};
    for (int mixed = 0; mixed < 2; mixed++) {
        layer *both[2] = {sample_factored(mixed), NULL};
        double errors[2][TASKS];
        double loss[2] = {0, 0};
        didi_error error = {0};
        both[1] = dense_of(both[0]);
        for (size_t i = 0; i < 2; i++) {
            double half = 0;
            for (int round = 0; round < 3; round++) {
                must(layer_update(both[i], 0, 4, &error), &error);
                both[i]->blocks[0].rank = both[i]->blocks[0].basis;
                must(layer_update_experts(both[i], LAYER_UPDATE, basis, &error), &error);
                for (size_t t = 1; t <= TASKS; t++)
                    both[i]->blocks[t].rank = both[i]->blocks[t].basis;
            }
            must(layer_half_sweep(both[i], 1, &half, &error), &error);
            must(layer_loss(both[i], errors[i], &loss[i], &error), &error);
        }
        double whole = layer_weighted_energy(both[1]);
        sample_assert_near(loss[0], loss[1], 1e-4 * whole);
        layer_free(both[0]);
        layer_free(both[1]);
    }
}

static void gram_matrices_are_those_of_matrices(void **state)
{
    (void)state;
    double gram[TASKS * TASKS];
    layer *factored = sample_factored(false);
    layer *dense = dense_of(factored);
    didi_error error = {0};
    must(layer_factor_gram(factored, gram, &error), &error);
    for (size_t s = 0; s < TASKS; s++)
        for (size_t t = 0; t < TASKS; t++)
            sample_assert_near(gram[s * TASKS + t],
                               linalg_dot(layer_tau(dense, s), layer_tau(dense, t), ROWS * COLUMNS),
                               1e-5 * (dense->energy[0] + dense->energy[3]));
    layer_free(factored);
    layer_free(dense);
}

static addition make_offset(void)
{
    enum { RANK = 2 };
    addition offset = {.rows = ROWS, .columns = COLUMNS, .rank = RANK};
    offset.left = support_allocate(RANK * ROWS * sizeof(float));
    offset.right = support_allocate(RANK * COLUMNS * sizeof(float));
    random_normal(11, offset.left, RANK * ROWS, 0.3F);
    random_normal(12, offset.right, RANK * COLUMNS, 0.3F);
    return offset;
}

static void an_offset_is_taken_away(void **state)
{
    (void)state;
    for (int mixed = 0; mixed < 2; mixed++) {
        layer *factored = sample_factored(mixed);
        layer *dense = dense_of(factored);
        didi_error error = {0};
        addition one = make_offset();
        addition two = make_offset();
        must(layer_take_away(factored, &one, &error), &error);
        must(layer_take_away(dense, &two, &error), &error);
        assert_int_equal(layer_factor_rank(factored, 1), 2);
        layer_set_weights(factored, weights);
        layer_set_weights(dense, weights);
        check_products(factored, dense);
        layer_free(factored);
        layer_free(dense);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        support_test(products_are_those_of_matrices),
        support_test(blocks_lose_the_same),
        support_test(gram_matrices_are_those_of_matrices),
        support_test(an_offset_is_taken_away),
    };
    return cmocka_run_group_tests(tests, sample_use_one_thread, NULL);
}
