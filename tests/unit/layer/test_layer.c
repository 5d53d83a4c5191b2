/* SPDX-License-Identifier: Apache-2.0 */
/* Block updates never raise a loss, and losses by inner products equal those of dense rebuilds. */
#include "src/base/fault.h"
#include "src/math/linalg.h"
#include "tests/unit/sample_layer.h"
#include "tests/unit/support.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOSS_BOUND 2e-6 /* of the energy: losses are float32 products summed up */

static const sample_recipe recipes[] = {
    {12, 9, 3, 2, 12, 1}, {9, 12, 3, 0, 3, 2}, {20, 20, 1, 0, 20, 3},
    {1, 30, 2, 1, 1, 4},  {30, 1, 2, 0, 1, 5}, {40, 15, 4, 3, 2, 6},
    {6, 50, 2, 2, 0, 7},  {8, 8, 3, 0, 0, 8},  {25, 31, 5, 4, 25, 9},
};
enum { RECIPES = sizeof recipes / sizeof *recipes };

static void must(int status, const didi_error *error)
{
    if (status != DIDI_OK)
        fail_msg("%s: %s", didi_status_name(status), error->message);
}

/* Gives every block `rank` rows of its residual, all of them part of the matrix. */
static void grow(layer *self, size_t rank)
{
    didi_error error = {0};
    for (size_t j = 0; j <= self->tasks; j++) {
        must(layer_update(self, j, rank, &error), &error);
        self->blocks[j].rank = self->blocks[j].basis;
    }
}

static void an_empty_layer_is_zero(void **state)
{
    (void)state;
    layer *self = sample_layer(&recipes[0]);
    double errors[3];
    double loss = 0;
    didi_error error = {0};
    must(layer_loss(self, errors, &loss, &error), &error);
    sample_assert_near(loss, layer_weighted_energy(self), 1e-12);
    for (size_t t = 0; t < 3; t++) {
        assert_true(errors[t] == self->energy[t]);
        sample_assert_near(self->energy[t], linalg_energy(self->tau + t * 108, 108), 1e-12);
    }
    assert_int_equal(layer_full_rank(self), 9);
    layer_free(self);
    layer_free(NULL);
}

static void the_mean_is_weighted(void **state)
{
    (void)state;
    layer *self = sample_layer(&recipes[0]);
    static const double weight[] = {1, 0, 3};
    layer_set_weights(self, weight);
    assert_true(self->weight_sum == 4);
    for (size_t i = 0; i < 108; i++)
        sample_assert_near((double)self->mean[i],
                           0.25 * (double)self->tau[i] + 0.75 * (double)self->tau[216 + i], 1e-6);
    static const double none[] = {0, 0, 0};
    layer_set_weights(self, none);
    for (size_t i = 0; i < 108; i++)
        assert_true(self->mean[i] == 0);
    layer_free(self);
}

static void a_block_of_full_rank_is_its_matrix(void **state)
{
    (void)state;
    for (size_t r = 0; r < RECIPES; r++) {
        layer *self = sample_layer(&recipes[r]);
        size_t count = self->rows * self->columns;
        double *product = support_allocate(count * sizeof *product);
        didi_error error = {0};
        must(layer_set_block(self, 1, self->tau, SIZE_MAX, &error), &error);
        assert_int_equal(self->blocks[1].rank, layer_full_rank(self));
        sample_product(self, 1, self->blocks[1].rank, product);
        for (size_t i = 0; i < count; i++)
            sample_assert_near(product[i], (double)self->tau[i], 1e-5);
        must(layer_set_block(self, 1, self->tau, 0, &error), &error);
        assert_int_equal(self->blocks[1].rank, 0);
        free(product);
        layer_free(self);
    }
}

static void losses_equal_dense_losses(void **state)
{
    (void)state;
    static const double weight[] = {0.5, 2, 0, 1, 3};
    for (size_t r = 0; r < RECIPES; r++)
        for (size_t rank = 0; rank <= 8; rank += 4) {
            layer *self = sample_layer(&recipes[r]);
            double errors[5];
            double wanted[5];
            double loss = 0;
            didi_error error = {0};
            layer_set_weights(self, weight);
            grow(self, rank);
            must(layer_loss(self, errors, &loss, &error), &error);
            double bound = LOSS_BOUND * layer_weighted_energy(self) + 1e-12;
            sample_assert_near(loss, sample_loss(self, wanted), bound);
            for (size_t t = 0; t < self->tasks; t++)
                sample_assert_near(errors[t], wanted[t], LOSS_BOUND * self->energy[t] + 1e-12);
            must(layer_loss(self, errors, NULL, &error), &error);
            must(layer_errors_fitted(self, errors, &loss, &error), &error);
            sample_assert_near(loss, sample_loss(self, NULL), bound);
            layer_free(self);
        }
}

/* One pass of steps of a kind over all blocks, the dense loss watched after each. */
static void check_pass(layer *self, layer_step kind, size_t basis)
{
    double bound = LOSS_BOUND * layer_weighted_energy(self) + 1e-12;
    double before = sample_loss(self, NULL);
    didi_error error = {0};
    for (size_t j = 0; j <= self->tasks; j++) {
        size_t rank = self->blocks[j].rank;
        must(kind == LAYER_TURN ? layer_turn(self, j, basis, &error)
                                : layer_update(self, j, basis, &error),
             &error);
        assert_true(self->blocks[j].rank <= rank);
        double after = sample_loss(self, NULL);
        if (after > before + bound)
            fail_msg("block %zu: %g after %g", j, after, before);
        before = after;
    }
}

/* Half a sweep: what it says of the loss, beside the dense loss before and after. */
static void check_half_sweep(layer *self, double relax)
{
    double bound = 5 * LOSS_BOUND * layer_weighted_energy(self) + 1e-12;
    double before = sample_loss(self, NULL);
    double loss = 0;
    size_t ranks[6];
    didi_error error = {0};
    for (size_t j = 0; j <= self->tasks; j++)
        ranks[j] = self->blocks[j].rank;
    must(layer_half_sweep(self, relax, &loss, &error), &error);
    for (size_t j = 0; j <= self->tasks; j++)
        assert_true(self->blocks[j].rank == ranks[j]);
    assert_true(loss <= before + bound);
    double after = sample_loss(self, NULL);
    assert_true(after >= loss - bound && after <= before + bound);
    if (relax == 1)
        sample_assert_near(after, loss, bound);
}

static void no_step_raises_the_loss(void **state)
{
    (void)state;
    static const double weights[][5] = {{1, 1, 1, 1, 1}, {0.1, 5, 0, 2, 1}, {0, 1, 0, 0, 0}};
    for (size_t r = 0; r < RECIPES; r++)
        for (size_t w = 0; w < 3; w++)
            for (size_t rank = 1; rank <= 10; rank += 3) {
                layer *self = sample_layer(&recipes[r]);
                layer_set_weights(self, weights[w]);
                grow(self, rank);
                static const layer_step kinds[] = {LAYER_UPDATE, LAYER_TURN, LAYER_TURN,
                                                   LAYER_TURN};
                for (size_t pass = 0; pass < sizeof kinds / sizeof *kinds; pass++) {
                    check_pass(self, kinds[pass], rank + pass);
                    check_half_sweep(self, 1);
                }
                for (int pass = 0; pass < 6; pass++)
                    check_half_sweep(self, pass % 3 == 2 ? 1 : 1.6);
                layer_free(self);
            }
}

/* What is left of task t, its transpose where the right side was known: rows of the known side. */
static void residual(const layer *self, size_t task, double *out)
{
    size_t count = self->rows * self->columns;
    double *product = support_allocate(count * sizeof *product);
    for (size_t i = 0; i < count; i++)
        out[i] = (double)self->tau[task * count + i];
    for (size_t j = 0; j <= task + 1; j += task + 1) {
        sample_product(self, j, self->blocks[j].rank, product);
        for (size_t i = 0; i < count; i++)
            out[i] -= product[i];
    }
    free(product);
}

/* sum += weight * (rows of a block's left side) times the residual. */
static void project(const layer *self, size_t index, const double *left_over, double weight,
                    double *sum)
{
    const block *known = &self->blocks[index];
    for (size_t i = 0; i < known->rank; i++)
        for (size_t r = 0; r < self->rows; r++)
            for (size_t c = 0; c < self->columns; c++)
                sum[i * self->columns + c] += weight * (double)known->left[i * self->rows + r] *
                                              left_over[r * self->columns + c];
}

/* What is left is orthogonal to the known rows: of each expert, and summed up for the shared. */
static void half_a_sweep_solves_for_all_blocks_at_once(void **state)
{
    (void)state;
    static const double weight[] = {1, 2, 0.5};
    layer *self = sample_layer(&recipes[0]);
    double left_over[108];
    double shared[36] = {0};
    double loss = 0;
    didi_error error = {0};
    layer_set_weights(self, weight);
    grow(self, 3);
    must(layer_half_sweep(self, 1, &loss, &error), &error);
    must(layer_half_sweep(self, 1, &loss, &error), &error);
    assert_false(self->blocks[0].left_is_fresh);
    for (size_t t = 0; t < 3; t++) {
        double own[36] = {0};
        residual(self, t, left_over);
        project(self, t + 1, left_over, 1, own);
        project(self, 0, left_over, weight[t], shared);
        for (size_t i = 0; i < 27; i++)
            sample_assert_near(own[i], 0, 1e-4);
    }
    for (size_t i = 0; i < 27; i++)
        sample_assert_near(shared[i], 0, 2e-3);
    layer_free(self);
}

/* The shared part is common to all experts' rows: nobody's, and found to be so. */
static void directions_of_all_experts_need_no_shared_block(void **state)
{
    (void)state;
    layer *self = sample_layer(&recipes[0]);
    double loss = 1;
    didi_error error = {0};
    grow(self, 9);
    for (int pass = 0; pass < 3; pass++) {
        must(layer_half_sweep(self, 1, &loss, &error), &error);
        sample_assert_near(loss, 0, LOSS_BOUND * layer_weighted_energy(self));
        sample_assert_near(sample_loss(self, NULL), 0, LOSS_BOUND * layer_weighted_energy(self));
    }
    layer_free(self);
}

static void half_sweeps_know_their_lengths(void **state)
{
    (void)state;
    layer *self = sample_layer(&recipes[0]);
    double product[108];
    double loss = 0;
    didi_error error = {0};
    grow(self, 4);
    for (int side = 0; side < 3; side++) {
        must(layer_half_sweep(self, side == 1 ? 1.5 : 1, &loss, &error), &error);
        assert_int_equal(self->blocks[1].rank, 4);
        double energy = 0;
        double sigma = 0;
        sample_product(self, 1, 4, product);
        for (size_t i = 0; i < 108; i++)
            energy += product[i] * product[i];
        for (size_t i = 0; i < 4; i++)
            sigma += self->blocks[1].sigma[i] * self->blocks[1].sigma[i];
        sample_assert_near(sigma, energy, 1e-5 * energy);
    }
    layer_free(self);
}

/* The first recipe's layer, and the singular values of its first task. */
static layer *layer_with_spectrum(double sigma[9])
{
    layer *self = sample_layer(&recipes[0]);
    float copy[108];
    float u[12 * 9];
    float v[9 * 9];
    didi_error error = {0};
    memcpy(copy, self->tau, sizeof copy);
    must(linalg_svd(12, 9, copy, u, sigma, v, &error), &error);
    return self;
}

static void an_update_of_full_basis_finds_singular_values(void **state)
{
    (void)state;
    double sigma[9];
    didi_error error = {0};
    layer *self = layer_with_spectrum(sigma);
    must(layer_update(self, 1, 9, &error), &error);
    must(layer_update(self, 1, 9, &error), &error);
    assert_int_equal(self->blocks[1].basis, 9);
    assert_int_equal(self->blocks[1].rank, 0); /* rows are kept warm, none is taken */
    for (size_t i = 0; i < 9; i++)
        sample_assert_near(self->blocks[1].sigma[i], sigma[i], 1e-5 * sigma[0]);
    must(layer_update(self, 1, 0, &error), &error);
    assert_int_equal(self->blocks[1].basis, 0);
    layer_free(self);
}

/* Rows of the left side are orthonormal and those of the right sigma_i long, whichever was solved.
 */
static void turns_alternate_and_find_singular_values(void **state)
{
    (void)state;
    double sigma[9];
    didi_error error = {0};
    layer *self = layer_with_spectrum(sigma);
    for (int call = 0; call < 4; call++) {
        const block *found = &self->blocks[1];
        must(layer_turn(self, 1, 9, &error), &error);
        assert_int_equal(found->basis, 9);
        assert_int_equal(found->left_is_fresh, call % 2 == 1); /* the first is a whole update */
        for (size_t i = 0; i < 5; i++) {
            sample_assert_near(found->sigma[i], sigma[i], 1e-4 * sigma[0]);
            sample_assert_near(linalg_energy(found->left + i * 12, 12), 1, 1e-4);
            sample_assert_near(sqrt(linalg_energy(found->right + i * 9, 9)), found->sigma[i],
                               1e-4 * sigma[0]);
        }
    }
    must(layer_turn(self, 1, 0, &error), &error);
    assert_int_equal(self->blocks[1].basis, 0);
    layer_free(self);
}

static void padding_adds_nothing(void **state)
{
    (void)state;
    layer *self = sample_layer(&recipes[0]);
    didi_error error = {0};
    grow(self, 3);
    double before = sample_loss(self, NULL);
    must(layer_pad_block(self, 1, 2, &error), &error);
    assert_int_equal(self->blocks[1].basis, 3);
    must(layer_pad_block(self, 1, 7, &error), &error);
    assert_int_equal(self->blocks[1].basis, 7);
    self->blocks[1].rank = 7;
    assert_true(sample_loss(self, NULL) == before);
    assert_true(self->blocks[1].sigma[3] == 0);
    must(layer_resize_block(self, 1, 5, &error), &error);
    assert_true(self->blocks[1].rank == 0 && self->blocks[1].basis == 5);
    layer_free(self);
}

static void *help(void *argument)
{
    parallel_help(argument, parallel_epoch(argument));
    return NULL;
}

static void check_helpers(const sample_recipe *recipe, size_t rank)
{
    layer *alone = sample_layer(recipe);
    layer *helped = sample_layer(recipe);
    pthread_t helpers[2];
    parallel *crew = NULL;
    didi_error error = {0};
    must(parallel_create(&crew, &error), &error);
    helped->parallel = crew;
    parallel_enter(crew);
    for (size_t i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&helpers[i], NULL, help, crew), 0);
    layer *both[] = {alone, helped};
    double loss[2];
    for (size_t i = 0; i < 2; i++) {
        static const double weight[] = {1, 2, 0.5};
        const size_t basis[] = {rank - 1, rank, rank + 1};
        must(layer_measure(both[i], &error), &error);
        layer_set_weights(both[i], weight);
        grow(both[i], rank);
        must(layer_update_experts(both[i], LAYER_UPDATE, basis, &error), &error);
        must(layer_update_experts(both[i], LAYER_TURN, basis, &error), &error);
        must(layer_half_sweep(both[i], 1.5, &loss[i], &error), &error);
        must(layer_pad_block(both[i], 2, rank + 9, &error), &error);
        must(layer_make_singular(both[i], 0, &error), &error);
    }
    parallel_leave(crew);
    assert_true(loss[0] == loss[1]);
    for (size_t i = 0; i < 2; i++)
        assert_int_equal(pthread_join(helpers[i], NULL), 0);
    for (size_t j = 0; j <= 3; j++) {
        const block *a = &alone->blocks[j];
        const block *b = &helped->blocks[j];
        assert_true(a->rank == b->rank && a->basis == b->basis);
        assert_memory_equal(a->left, b->left, a->basis * recipe->rows * sizeof(float));
        assert_memory_equal(a->right, b->right, a->basis * recipe->columns * sizeof(float));
    }
    layer_free(alone);
    layer_free(helped);
    parallel_free(crew);
}

static void helpers_change_no_bit(void **state)
{
    (void)state;
    static const sample_recipe wide = {70, 4500, 3, 3, 6, 12};      /* columns of several panels */
    static const sample_recipe large = {901, 1003, 3, 520, 40, 13}; /* blocks of several tiles */
    check_helpers(&wide, 6);
    if (!SUPPORT_SANITIZED) /* there test_linalg_shared has tiles enough */
        check_helpers(&large, 515);
}

static void a_cancelled_layer_stops(void **state)
{
    (void)state;
    layer *self = sample_layer(&recipes[0]);
    atomic_bool cancelled = true;
    double loss = 0;
    didi_error error = {0};
    grow(self, 2);
    assert_false(layer_is_cancelled(self));
    didi_error failed = {0};
    must(parallel_create(&self->parallel, &failed), &failed);
    self->cancelled = &cancelled;
    assert_true(layer_is_cancelled(self));
    assert_int_equal(layer_update(self, 1, 2, &error), DIDI_CANCELLED);
    assert_int_equal(layer_turn(self, 1, 2, &error), DIDI_CANCELLED);
    assert_int_equal(layer_half_sweep(self, 1, &loss, &error), DIDI_CANCELLED);
    parallel_free(self->parallel);
    layer_free(self);
}

static int everything(layer *self, didi_error *error)
{
    static const size_t basis[] = {4, 5, 3};
    double errors[3];
    double loss = 0;
    int status = layer_update(self, 0, 5, error);
    if (status == DIDI_OK)
        status = layer_update_experts(self, LAYER_UPDATE, basis, error);
    if (status == DIDI_OK)
        status = layer_update_experts(self, LAYER_TURN, basis, error);
    if (status == DIDI_OK)
        status = layer_half_sweep(self, 1.5, &loss, error);
    if (status == DIDI_OK)
        status = layer_set_block(self, 2, self->tau, 4, error);
    if (status == DIDI_OK)
        status = layer_pad_block(self, 2, 6, error);
    if (status == DIDI_OK)
        status = layer_errors_fitted(self, errors, &loss, error);
    return status == DIDI_OK ? layer_loss(self, errors, &loss, error) : status;
}

static void no_memory_is_told_and_nothing_is_lost(void **state)
{
    (void)state;
    size_t failures = 0;
    for (size_t nth = 1; nth < 500; nth++) {
        layer *self = sample_layer(&recipes[0]);
        char fault[32];
        didi_error error = {0};
        grow(self, 3);
        (void)snprintf(fault, sizeof fault, "alloc:%zu", nth);
        assert_int_equal(fault_arm(fault), 0);
        int status = everything(self, &error);
        bool fired = fault_all_fired();
        assert_int_equal(fault_arm(NULL), 0);
        assert_int_equal(status, fired ? DIDI_NO_MEMORY : DIDI_OK);
        must(everything(self, &error), &error);
        layer_free(self);
        if (!fired)
            break;
        failures++;
    }
    assert_in_range(failures, 20, 400);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_layer_is_zero),
        cmocka_unit_test(the_mean_is_weighted),
        cmocka_unit_test(a_block_of_full_rank_is_its_matrix),
        cmocka_unit_test(losses_equal_dense_losses),
        cmocka_unit_test(no_step_raises_the_loss),
        cmocka_unit_test(half_a_sweep_solves_for_all_blocks_at_once),
        cmocka_unit_test(directions_of_all_experts_need_no_shared_block),
        cmocka_unit_test(half_sweeps_know_their_lengths),
        cmocka_unit_test(an_update_of_full_basis_finds_singular_values),
        cmocka_unit_test(turns_alternate_and_find_singular_values),
        cmocka_unit_test(padding_adds_nothing),
        cmocka_unit_test(helpers_change_no_bit),
        cmocka_unit_test(a_cancelled_layer_stops),
        cmocka_unit_test(no_memory_is_told_and_nothing_is_lost),
    };
    return cmocka_run_group_tests(tests, sample_use_one_thread, NULL);
}
