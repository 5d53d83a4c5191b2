/* SPDX-License-Identifier: Apache-2.0 */
/* Exact spectral loss and Adam over real ranks. */
#include "src/budget/learned.h"

#include "src/base/base.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

double differentiable_gate(double rank, size_t component, double beta)
{
    return 0.5 * tanh(beta * (rank - ((double)component + 0.5))) + 0.5;
}

/* With d = sigma (1 - gate) the truncated part of each spectrum, the loss is
 * sum_t w_t (|d_s|^2 + |d_t|^2 + 2 d_s' C_t d_t), values beyond q being truncated wholly. Fills
 * cut[j] and returns it; also (C_t d_t)[i] and (C_t' d_s)[j] for the gradient. */
static double layer_loss_of_cut(const differentiable_layer *layer, const double *cut,
                                double *cross_shared, double *cross_expert)
{
    assert(layer->rank_limit <= layer->q);
    size_t q = layer->q;
    double loss = 0;
    double shared = layer->tail[0];
    for (size_t i = 0; i < q; i++)
        shared += cut[i] * cut[i];
    for (size_t t = 0; t < layer->tasks; t++) {
        const double *expert_cut = cut + (t + 1) * q;
        const float *cross = layer->cross + t * q * q;
        double *to_shared = cross_shared + t * q;
        double *to_expert = cross_expert + t * q;
        double own = layer->tail[t + 1];
        double both = layer->corner[t];
        for (size_t j = 0; j < q; j++) {
            own += expert_cut[j] * expert_cut[j];
            to_expert[j] = layer->shared_tail[t * q + j];
            both += to_expert[j] * expert_cut[j];
        }
        for (size_t i = 0; i < q; i++) {
            double sum = layer->expert_tail[t * q + i];
            const float *row = cross + i * q;
            double lanes[4] = {0};
            size_t j = 0;
            for (; j + 4 <= q; j += 4)
                for (size_t l = 0; l < 4; l++)
                    lanes[l] += (double)row[j + l] * expert_cut[j + l];
            for (; j < q; j++)
                lanes[0] += (double)row[j] * expert_cut[j];
            sum += lanes[0] + lanes[1] + lanes[2] + lanes[3];
            for (j = 0; cut[i] != 0 && j < q; j++)
                to_expert[j] += (double)row[j] * cut[i];
            to_shared[i] = sum;
            both += cut[i] * sum;
        }
        loss += layer->weight[t] * (shared + own + 2 * both);
    }
    return loss > 0 ? loss : 0;
}

double differentiable_loss(const differentiable_layer *layer, const double *ranks, double beta,
                           double *ret_gradient, double *scratch)
{
    size_t q = layer->q;
    size_t blocks = layer->tasks + 1;
    double *cut = scratch;
    double *slope = cut + blocks * q;
    double *cross_shared = slope + blocks * q;
    double *cross_expert = cross_shared + blocks * q;
    for (size_t j = 0; j < blocks; j++)
        for (size_t i = 0; i < q; i++) {
            double gate = differentiable_gate(ranks[j], i, beta);
            double sigma = layer->sigma[j * q + i];
            cut[j * q + i] = sigma * (1 - gate);
            slope[j * q + i] = -sigma * 2 * beta * gate * (1 - gate);
        }
    double loss = layer_loss_of_cut(layer, cut, cross_shared, cross_expert);
    if (ret_gradient == NULL)
        return loss;
    memset(ret_gradient, 0, blocks * sizeof *ret_gradient);
    for (size_t t = 0; t < layer->tasks; t++)
        for (size_t i = 0; i < q; i++) {
            double own = cut[(t + 1) * q + i] + cross_expert[t * q + i];
            double shared = cut[i] + cross_shared[t * q + i];
            ret_gradient[t + 1] += 2 * layer->weight[t] * own * slope[(t + 1) * q + i];
            ret_gradient[0] += 2 * layer->weight[t] * shared * slope[i];
        }
    return loss;
}

double differentiable_truncated(const differentiable_layer *layer, const size_t *ranks,
                                double *scratch)
{
    size_t q = layer->q;
    size_t blocks = layer->tasks + 1;
    for (size_t j = 0; j < blocks; j++)
        for (size_t i = 0; i < q; i++)
            scratch[j * q + i] = i < ranks[j] ? 0 : layer->sigma[j * q + i];
    return layer_loss_of_cut(layer, scratch, scratch + 2 * blocks * q, scratch + 3 * blocks * q);
}

/* ---- Adam ---- */

typedef struct optimiser {
    const differentiable_layer *layers;
    const differentiable_options *options;
    double *const *ranks;
    double **numbers; /* per layer: first and second moments, gradient (T + 1 each), scratch */
    double *losses;
    size_t step;
    double ratio;
} optimiser;

static void evaluate_layer(void *argument, size_t index)
{
    optimiser *self = argument;
    const differentiable_layer *layer = &self->layers[index];
    double *gradient = self->numbers[index] + 2 * (layer->tasks + 1);
    self->losses[index] = differentiable_loss(layer, self->ranks[index], self->options->beta,
                                              gradient, gradient + layer->tasks + 1);
}

static void step_layer(optimiser *self, size_t index)
{
    const differentiable_layer *layer = &self->layers[index];
    const differentiable_options *options = self->options;
    size_t blocks = layer->tasks + 1;
    double *first = self->numbers[index];
    double *second = first + blocks;
    const double *gradient = second + blocks;
    double progress = (double)self->step / (double)options->steps;
    double rate =
        options->learning_rate * (0.01 + 0.99 * 0.5 * (1 + cos(3.14159265358979 * progress)));
    double pull = self->ratio > options->target ? options->lambda : -options->lambda;
    double correct_first = 1 - pow(0.9, (double)self->step + 1);
    double correct_second = 1 - pow(0.999, (double)self->step + 1);
    for (size_t j = 0; j < blocks; j++) {
        double g = gradient[j] / options->energy +
                   pull * (double)layer->cost / (double)options->matrix_parameters;
        first[j] = 0.9 * first[j] + 0.1 * g;
        second[j] = 0.999 * second[j] + 0.001 * g * g;
        double move =
            rate * (first[j] / correct_first) / (sqrt(second[j] / correct_second) + 1e-300);
        double rank = self->ranks[index][j] - move;
        double limit = (double)layer->rank_limit;
        self->ranks[index][j] = rank < 0 ? 0 : rank > limit ? limit : rank;
    }
}

static double ratio_now(const optimiser *self, size_t count)
{
    double parameters = 0;
    for (size_t l = 0; l < count; l++)
        for (size_t j = 0; j <= self->layers[l].tasks; j++)
            parameters += self->ranks[l][j] * (double)self->layers[l].cost;
    return parameters / (double)self->options->matrix_parameters;
}

static int run_steps(optimiser *self, size_t count, didi_error *error)
{
    const differentiable_options *options = self->options;
    for (self->step = 0; self->step < options->steps; self->step++) {
        if (options->cancelled != NULL && atomic_load(options->cancelled))
            return didi_fail(error, DIDI_CANCELLED, NULL, "cancelled");
        int status = fault_check(FAULT_STEP, "learned ranks", error);
        if (status != DIDI_OK)
            return status;
        self->ratio = ratio_now(self, count);
        parallel_run(options->parallel, count, evaluate_layer, self);
        double loss = 0;
        for (size_t l = 0; l < count; l++)
            loss += self->losses[l];
        if (options->report != NULL)
            options->report(options->context, self->step, loss / options->energy, self->ratio);
        for (size_t l = 0; l < count; l++)
            step_layer(self, l);
    }
    return DIDI_OK;
}

int differentiable_optimise(const differentiable_layer *layers, size_t count,
                            const differentiable_options *options, double *const *ranks,
                            didi_error *error)
{
    assert(options->matrix_parameters > 0 && options->target >= 0);
    optimiser self = {.layers = layers,
                      .options = options,
                      .ranks = ranks,
                      .numbers = memory_zeroed(count, sizeof(double *)),
                      .losses = memory_zeroed(count, sizeof(double))};
    bool whole = self.numbers != NULL && self.losses != NULL;
    for (size_t l = 0; l < count && whole; l++) {
        size_t blocks = layers[l].tasks + 1;
        self.numbers[l] = memory_zeroed(blocks * (3 + 6 * layers[l].q), sizeof(double));
        whole = self.numbers[l] != NULL;
    }
    int status = whole ? run_steps(&self, count, error)
                       : didi_fail(error, DIDI_NO_MEMORY, NULL, "rank optimiser");
    for (size_t l = 0; self.numbers != NULL && l < count; l++)
        free(self.numbers[l]);
    free(self.numbers);
    free(self.losses);
    return status;
}
