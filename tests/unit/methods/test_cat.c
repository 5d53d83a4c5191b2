/* SPDX-License-Identifier: Apache-2.0 */
/* CAT Merging: held to NumPy on the family of the reference, to the formula as it is written on
 * layers of both shapes, and what is wrong with Gram matrices is told. */
#include "src/base/file.h"
#include "src/files/checkpoint.h"
#include "src/math/random.h"
#include "tests/unit/sample_layer.h"
#include "tests/unit/sample_numbers.h"
#include "tests/unit/sample_reference.h"
#include "tests/unit/sample_summary.h"
#include "tests/unit/sample_trouble.h"
#include "tests/unit/support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The authors' code is not to be had: these are the paper's formula by numpy.linalg.eigh of the
 * full matrix of outputs, with the inputs of input_of(). lambda 1, one direction, scale 0.4. */
static const double one_direction[REFERENCE_NUMBERS] = {
    0.527455575,   0.422105249,   -0.137206856,  -0.422032044, 0.499781036,  0.107383446,
    -0.478885341,  -0.362319006,  0.344330627,   -0.348289799, -0.482910704, 0.05680855,
    0.0896152707,  -0.488466676,  -0.316380047,  0.226228911,  -0.291404633, -0.488261136,
    0.131843227,   0.55898933,    -0.405625986,  -0.156296099, 0.358650256,  0.430602165,
    0.0730130607,  -0.478377159,  -0.28290158,   0.279457771,  -0.265418677, -0.495008399,
    -0.0688445457, 0.429118935,   -0.569824345,  -0.348539638, 0.370194124,  0.476310656,
    -0.402898532,  0.0244007253,  0.464223456,   0.201041685,  -0.263372369, 0.416351062,
    0.51114902,    -0.0469558015, 0.16538713,    0.554451335,  0.14602603,   -0.405588437,
    -0.574592067,  -0.319456217,  -0.0199384303, 0.325015654,  0.488141418,  0.443914456};

/* lambda 0.1, two directions, scale 1. */
static const double two_directions[REFERENCE_NUMBERS] = {
    0.570828169,  0.548025941,  -0.0359940023, -0.354730202, 0.521023473,  0.0620546408,
    -0.436756417, -0.330630143, 0.282315111,   -0.32522326,  -0.546738746, -0.0376180227,
    0.0446463979, -0.604203004, -0.286158607,  0.193943886,  -0.19996365,  -0.412868922,
    0.170097769,  0.516816446,  -0.421830899,  -0.121159049, 0.455614089,  0.521193298,
    0.0992597327, -0.43799734,  -0.283663511,  0.301909906,  -0.358569047, -0.619172306,
    -0.115027035, 0.368382493,  -0.496344557,  -0.309958946, 0.300393736,  0.421763581,
    -0.404295675, 0.0355680987, 0.542952541,   0.168249158,  -0.159654738, 0.539470853,
    0.540213877,  0.0203858553, 0.136365532,   0.570018133,  0.204672511,  -0.350589644,
    -0.717286961, -0.385626387, -0.137257979,  0.265812355,  0.471446035,  0.510920804};

/* The same with Gram matrices of trace 1, and task vectors brought to their lengths. */
static const double lengths_kept[REFERENCE_NUMBERS] = {
    0.683651823,  0.669412068,    0.100617622,  -0.262417488,  0.50526255,    0.0565957643,
    -0.45287745,  -0.332027603,   0.281623439,  -0.331968132,  -0.549122567,  -0.0441846588,
    0.205081335,  -0.747645093,   -0.173340576, 0.00915948102, -0.0524474891, -0.340913241,
    0.32636051,   0.550758837,    -0.411840011, -0.0477319683, 0.483862897,   0.592045838,
    0.0426760054, -0.481646075,   -0.347737672, 0.272842175,   -0.520934497,  -0.730648147,
    -0.295336929, 0.29874644,     -0.479223085, -0.230750265,  0.336789485,   0.496560247,
    -0.326137378, -0.00153553114, 0.606359648,  0.111004995,   -0.140939891,  0.724201567,
    0.605289061,  0.200293959,    0.111175271,  0.6115802,     0.191865061,   -0.302536325,
    -0.717286961, -0.385626387,   -0.137257979, 0.265812355,   0.471446035,   0.510920804};

enum { TASKS = REFERENCE_TASKS, ORDER_MAX = 24, GRAMS = 3 };

/* ---- Gram matrices ---- */

/* One file of Gram matrices: `count` names, orders and numbers; of a vector its sums of squares. */
typedef struct gram_file {
    const char *names[GRAMS];
    uint64_t orders[GRAMS];
    bool is_vector[GRAMS];
    double values[GRAMS][ORDER_MAX * ORDER_MAX];
    didi_dtype dtype;
    size_t count;
} gram_file;

static size_t numbers_of(const gram_file *file, size_t k)
{
    return (size_t)(file->is_vector[k] ? file->orders[k] : file->orders[k] * file->orders[k]);
}

static void write_grams(int directory, const gram_file *file)
{
    uint64_t shapes[GRAMS][2];
    safetensors_layout_entry entries[GRAMS];
    safetensors_writer *writer = NULL;
    didi_error error = {0};
    for (size_t k = 0; k < file->count; k++) {
        shapes[k][0] = shapes[k][1] = file->orders[k];
        entries[k] = (safetensors_layout_entry){file->names[k], file->dtype,
                                                file->is_vector[k] ? 1 : 2, shapes[k]};
    }
    safetensors_contents contents = {.entries = entries, .count = file->count};
    (void)unlinkat(directory, "model.safetensors", 0);
    sample_must(
        safetensors_writer_create(directory, "model.safetensors", &contents, &writer, &error),
        &error);
    for (size_t k = 0; k < file->count; k++) {
        size_t count = numbers_of(file, k);
        float narrow[ORDER_MAX * ORDER_MAX];
        for (size_t i = 0; i < count; i++)
            narrow[i] = (float)file->values[k][i];
        const void *bytes = file->dtype == DIDI_DTYPE_F64 ? (const void *)file->values[k] : narrow;
        sample_must(safetensors_writer_put_bytes(writer, file->names[k], 0, bytes,
                                                 count * didi_dtype_bits(file->dtype) / 8, &error),
                    &error);
    }
    sample_must(safetensors_writer_close(writer, false, &error), &error);
}

/* Gram matrices of a sample, task by task. */
typedef struct grams {
    int directories[TASKS];
    gram_file files[TASKS];
} grams;

static void grams_open(grams *self, sample_family *sample)
{
    for (size_t t = 0; t < TASKS; t++) {
        static const char *const names[TASKS] = {"gram0", "gram1", "gram2"};
        didi_error error = {0};
        sample_must(file_open_directory(sample->root, names[t], 1, &self->directories[t], &error),
                    &error);
        write_grams(self->directories[t], &self->files[t]);
        sample->inputs[t].gram = names[t];
        sample->inputs[t].gram_fd = self->directories[t];
    }
    sample->options.method = "cat";
}

static void grams_close(const grams *self)
{
    for (size_t t = 0; t < TASKS; t++)
        close(self->directories[t]);
}

/* ---- the family of the reference ---- */

static double input_of(size_t input, size_t j, size_t task, size_t k)
{
    return sin(1 + 0.9 * (double)input + 1.7 * (double)j + 2.3 * (double)task + (double)k);
}

static void fill_grams(grams *self)
{
    enum { INPUTS = 3, COLUMNS = 4 };
    for (size_t t = 0; t < TASKS; t++) {
        self->files[t] = (gram_file){.names = {"layer.attn.q.weight", "layer.mlp.fc.weight"},
                                     .orders = {COLUMNS, COLUMNS},
                                     .dtype = DIDI_DTYPE_F64,
                                     .count = 2};
        for (size_t k = 0; k < 2; k++)
            for (size_t i = 0; i < COLUMNS; i++)
                for (size_t j = 0; j < COLUMNS; j++)
                    for (size_t s = 0; s < INPUTS; s++)
                        self->files[t].values[k][i * COLUMNS + j] +=
                            input_of(s, i, t, k) * input_of(s, j, t, k);
    }
}

static void open_reference(sample_family *sample, grams *given, void **state)
{
    sample_reference_create(sample, support_directory(state));
    fill_grams(given);
    grams_open(given, sample);
}

static void check_served(sample_family *sample, const char *options, const double *wanted)
{
    float served[REFERENCE_NUMBERS];
    didi_error error = {0};
    sample->options.method_options = options;
    sample_start_over(sample);
    sample_must(sample_merge(&sample->options, 2, 0, &error), &error);
    for (size_t t = 0; t < TASKS; t++) {
        sample_reference_served(sample, "package", t, served);
        for (size_t n = 0; n < REFERENCE_NUMBERS; n++)
            sample_assert_near((double)served[n], wanted[n], 5e-7);
    }
}

static void multiply(gram_file *file, double by)
{
    for (size_t k = 0; k < file->count; k++)
        for (size_t i = 0; i < numbers_of(file, k); i++)
            file->values[k][i] *= by;
}

static void the_formula_is_met(void **state)
{
    sample_family sample;
    grams given = {0};
    open_reference(&sample, &given, state);
    check_served(&sample, "{\"lambda\": 1, \"directions\": 1, \"scale\": 0.4}", one_direction);
    check_served(&sample, "{\"lambda\": 0.1, \"directions\": 2, \"scale\": 1}", two_directions);
    check_served(&sample,
                 "{\"lambda\": 0.1, \"directions\": 2, \"scale\": 1, \"grams\": \"trace\", "
                 "\"keep_length\": true}",
                 lengths_kept);
    /* A factor of all Gram matrices changes nothing; of one it does, but for their traces. */
    for (size_t t = 0; t < TASKS; t++) {
        multiply(&given.files[t], 1e6);
        write_grams(given.directories[t], &given.files[t]);
    }
    check_served(&sample, "{\"lambda\": 1, \"directions\": 1, \"scale\": 0.4}", one_direction);
    multiply(&given.files[1], 1.0 / 128);
    write_grams(given.directories[1], &given.files[1]);
    check_served(&sample,
                 "{\"lambda\": 0.1, \"directions\": 2, \"scale\": 1, \"grams\": \"trace\", "
                 "\"keep_length\": true}",
                 lengths_kept);
    grams_close(&given);
    sample_family_close(&sample);
}

/* Nobody is disturbed by a task that is alone: it is task arithmetic. */
static void one_task_is_left_whole(void **state)
{
    sample_family sample;
    grams given = {0};
    float served[REFERENCE_NUMBERS];
    didi_error error = {0};
    open_reference(&sample, &given, state);
    sample.options.task_count = 1;
    sample.options.method_options = "{\"scale\": 0.5}";
    sample_start_over(&sample);
    sample_must(sample_merge(&sample.options, 1, 0, &error), &error);
    sample_reference_served(&sample, "package", 0, served);
    for (size_t n = 0; n < REFERENCE_NUMBERS; n++)
        sample_assert_near((double)served[n],
                           sample_reference_base(n) + 0.5 * sample_reference_tau(0, n), 5e-7);
    sample.options.task_count = TASKS;
    grams_close(&given);
    sample_family_close(&sample);
}

/* ---- the formula as it is written ---- */

enum { TALL_M = 24, TALL_N = 5, WIDE_M = 9, WIDE_N = 16, NORM_N = 7, TENSORS = 5 };
static const uint64_t shapes[TENSORS][2] = {
    {TALL_M, TALL_N}, {WIDE_M, WIDE_N}, {3, 4}, {NORM_N, 1}, {NORM_N, 1}};
static const safetensors_layout_entry tensors[TENSORS] = {
    {"tall.weight", DIDI_DTYPE_F32, 2, shapes[0]},  {"wide.weight", DIDI_DTYPE_F32, 2, shapes[1]},
    {"embed.weight", DIDI_DTYPE_F32, 2, shapes[2]}, {"norm.weight", DIDI_DTYPE_F32, 1, shapes[3]},
    {"norm.bias", DIDI_DTYPE_F32, 1, shapes[4]},
};

/* `context`: the task's number; NULL: the base, which is zero. */
static void fill(void *context, size_t tensor, float *values, size_t count)
{
    const size_t *task = context;
    memset(values, 0, count * sizeof *values);
    if (task != NULL)
        random_normal(random_mix(11 + *task, tensor), values, count, 0.1F);
}

/* The eigenvectors of a symmetric matrix as columns of v, by the rotations of Jacobi. */
static void rotate_to_diagonal(size_t n, double *a, double *v)
{
    for (size_t i = 0; i < n * n; i++)
        v[i] = i % (n + 1) == 0 ? 1 : 0;
    for (size_t sweep = 0; sweep < 60; sweep++)
        for (size_t p = 0; p < n; p++)
            for (size_t q = p + 1; q < n; q++) {
                if (fabs(a[p * n + q]) < 1e-300)
                    continue;
                double angle = 0.5 * atan2(2 * a[p * n + q], a[q * n + q] - a[p * n + p]);
                double c = cos(angle);
                double s = sin(angle);
                for (size_t i = 0; i < n; i++) {
                    double x = a[i * n + p];
                    double y = a[i * n + q];
                    a[i * n + p] = c * x - s * y;
                    a[i * n + q] = s * x + c * y;
                    x = v[i * n + p];
                    y = v[i * n + q];
                    v[i * n + p] = c * x - s * y;
                    v[i * n + q] = s * x + c * y;
                }
                for (size_t i = 0; i < n; i++) {
                    double x = a[p * n + i];
                    double y = a[q * n + i];
                    a[p * n + i] = c * x - s * y;
                    a[q * n + i] = s * x + c * y;
                }
            }
}

/* Entry (i, j) of A_task, Gram matrices as they are given. */
static double weighed(const grams *of, size_t k, size_t task, size_t at, double lambda)
{
    double sum = 0;
    for (size_t t = 0; t < TASKS; t++)
        if (t != task)
            sum += of->files[t].values[k][at] - lambda * of->files[task].values[k][at];
    return sum;
}

/* tau less its part in the `count` leading eigenvectors of tau A tau', all m of them computed. */
static void cut(const grams *of, size_t k, size_t task, double lambda, size_t count, double *tau)
{
    size_t m = (size_t)shapes[k][0];
    size_t n = (size_t)shapes[k][1];
    double *matrix = support_allocate(m * m * sizeof *matrix);
    double *vectors = support_allocate(m * m * sizeof *vectors);
    double *left = support_allocate(m * n * sizeof *left);
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < m; j++)
            for (size_t a = 0; a < n; a++)
                for (size_t b = 0; b < n; b++)
                    matrix[i * m + j] +=
                        tau[i * n + a] * weighed(of, k, task, a * n + b, lambda) * tau[j * n + b];
    rotate_to_diagonal(m, matrix, vectors);
    memcpy(left, tau, m * n * sizeof *left);
    for (size_t c = 0; c < count && c < m; c++) {
        size_t best = 0;
        for (size_t i = 0; i < m; i++)
            if (matrix[i * m + i] > matrix[best * m + best])
                best = i;
        matrix[best * m + best] = -INFINITY;
        for (size_t j = 0; j < n; j++) {
            double part = 0;
            for (size_t i = 0; i < m; i++)
                part += vectors[i * m + best] * tau[i * n + j];
            for (size_t i = 0; i < m; i++)
                left[i * n + j] -= vectors[i * m + best] * part;
        }
    }
    memcpy(tau, left, m * n * sizeof *left);
    free(matrix);
    free(vectors);
    free(left);
}

static void read_served(const sample_family *sample, size_t tensor, float *values, size_t count)
{
    checkpoint *model = NULL;
    didi_error error = {0};
    int exported = sample_export(sample, "package", 0);
    sample_must(checkpoint_open(exported, "exported", &model, &error), &error);
    sample_must(checkpoint_read_f32(model, checkpoint_find(model, tensors[tensor].name), 0, values,
                                    count, &error),
                &error);
    checkpoint_close(model);
    close(exported);
}

static void open_shapes(sample_family *sample, grams *given, void **state)
{
    sample_family_create(sample, support_directory(state), TASKS);
    sample->options.budget = 0;
    sample_tensors_write(sample->base, tensors, TENSORS, fill, NULL);
    for (size_t t = 0; t < TASKS; t++) {
        sample_tensors_write(sample->models[t], tensors, TENSORS, fill, &t);
        given->files[t] = (gram_file){.names = {"tall.weight", "wide.weight", "norm.weight"},
                                      .orders = {TALL_N, WIDE_N, NORM_N},
                                      .is_vector = {false, false, true},
                                      .dtype = t == 1 ? DIDI_DTYPE_F64 : DIDI_DTYPE_F32,
                                      .count = GRAMS};
        for (size_t i = 0; i < NORM_N; i++)
            given->files[t].values[2][i] = 1 + (double)((3 * t + i) % NORM_N);
        for (size_t k = 0; k < 2; k++) {
            enum { INPUTS = 30 };
            size_t n = (size_t)shapes[k][1];
            float inputs[INPUTS * WIDE_N];
            random_normal(random_mix(77 + t, k), inputs, INPUTS * n, 1.0F);
            for (size_t at = 0; at < n * n; at++) {
                double sum = 0;
                for (size_t s = 0; s < INPUTS; s++)
                    sum += (double)inputs[s * n + at / n] * (double)inputs[s * n + at % n];
                given->files[t].values[k][at] = (double)(float)sum;
            }
        }
    }
    grams_open(given, sample);
    sample->inputs[2].weight = 0.5;
}

static void check_formula(sample_family *sample, const grams *given, double lambda, size_t count)
{
    char options[96];
    didi_error error = {0};
    (void)snprintf(options, sizeof options, "{\"lambda\": %g, \"directions\": %zu, \"scale\": 0.7}",
                   lambda, count);
    sample->options.method_options = options;
    sample_start_over(sample);
    sample_must(sample_merge(&sample->options, 2, 0, &error), &error);
    for (size_t k = 0; k < TENSORS; k++) {
        float served[WIDE_M * WIDE_N];
        double wanted[WIDE_M * WIDE_N] = {0};
        size_t size = (size_t)(shapes[k][0] * shapes[k][1]);
        for (size_t t = 0; t < TASKS; t++) {
            float values[WIDE_M * WIDE_N];
            double tau[WIDE_M * WIDE_N];
            fill(&t, k, values, size);
            for (size_t i = 0; i < size; i++)
                tau[i] = (double)values[i];
            if (k < 2)
                cut(given, k, t, lambda, count, tau);
            for (size_t i = 0; i < size; i++)
                wanted[i] += 0.7 * sample->inputs[t].weight * tau[i];
        }
        read_served(sample, k, served, size);
        for (size_t i = 0; i < size; i++)
            sample_assert_near((double)served[i], wanted[i], 1e-7);
    }
}

/* With many directions those that disturb nobody are cut out too, behind the ones of zero that a
 * tall layer has. */
static void both_shapes_are_as_written(void **state)
{
    sample_family sample;
    grams given = {0};
    open_shapes(&sample, &given, state);
    check_formula(&sample, &given, 0.5, 2);
    check_formula(&sample, &given, 1, 4);
    check_formula(&sample, &given, 1, 7);
    check_formula(&sample, &given, 5, 21);
    grams_close(&given);
    sample_family_close(&sample);
}

/* Each task has one number of the norm that the others disturb, and one of the bias. */
static void masks_are_as_written(void **state)
{
    sample_family sample;
    grams given = {0};
    float served[2][NORM_N];
    didi_error error = {0};
    open_shapes(&sample, &given, state);
    sample.options.method_options = "{\"scale\": 1, \"directions\": 0, \"scale_entries\": 1, "
                                    "\"scale_lambda\": 0.5, \"bias_entries\": 1}";
    sample_start_over(&sample);
    sample_must(sample_merge(&sample.options, 2, 0, &error), &error);
    for (size_t k = 0; k < 2; k++) {
        float tau[TASKS][NORM_N];
        bool taken[TASKS][NORM_N] = {{false}};
        for (size_t t = 0; t < TASKS; t++)
            fill(&t, 3 + k, tau[t], NORM_N);
        for (size_t t = 0; t < TASKS; t++) {
            double most = -INFINITY;
            size_t at = 0;
            for (size_t i = 0; i < NORM_N; i++) {
                double conflict = 0;
                for (size_t other = 0; other < TASKS; other++)
                    if (other != t)
                        conflict += (double)tau[other][i] * (double)tau[other][i] *
                                    (k == 1 ? 1
                                            : given.files[t].values[2][i] -
                                                  0.5 * given.files[other].values[2][i]);
                at = conflict > most ? i : at;
                most = fmax(most, conflict);
            }
            for (size_t other = 0; other < TASKS; other++)
                taken[other][at] = taken[other][at] || other != t;
        }
        read_served(&sample, 3 + k, served[k], NORM_N);
        for (size_t i = 0; i < NORM_N; i++) {
            double wanted = 0;
            for (size_t t = 0; t < TASKS; t++)
                wanted += taken[t][i] ? 0 : sample.inputs[t].weight * (double)tau[t][i];
            sample_assert_near((double)served[k][i], wanted, 1e-7);
        }
    }
    grams_close(&given);
    sample_family_close(&sample);
}

/* ---- what is refused ---- */

static void check_refused(sample_family *sample, int status, const char *subject,
                          const char *message)
{
    didi_merge *merge = NULL;
    didi_error error = {0};
    int found = didi_merge_open(&sample->options, NULL, &merge, &error);
    didi_merge_close(merge);
    if (found == DIDI_OK)
        found = sample_merge(&sample->options, 1, 0, &error);
    assert_int_equal(found, status);
    assert_string_equal(error.subject, subject);
    support_assert_contains(error.message, message);
    assert_false(support_exists(sample->output, "package"));
}

static void grams_are_asked_for_and_only_then(void **state)
{
    sample_family sample;
    grams given = {0};
    open_reference(&sample, &given, state);
    const char *second = sample.inputs[1].gram;
    sample.inputs[1].gram = NULL;
    check_refused(&sample, DIDI_INVALID, "/tasks/1/gram",
                  "method 'cat' needs the Gram matrices of the inputs of each layer of task");
    sample.inputs[1].gram = second;
    sample.options.method = "average";
    check_refused(&sample, DIDI_INVALID, "/tasks/0/gram", "method 'average' uses no Gram matrices");
    grams_close(&given);
    sample_family_close(&sample);
}

static void wrong_grams_are_told(void **state)
{
    sample_family sample;
    grams given = {0};
    open_reference(&sample, &given, state);
    gram_file *file = &given.files[1];
    gram_file good = *file;
    static const struct {
        size_t at;
        double value;
        const char *message;
    } cases[] = {{6, NAN, "holds NaN or Inf at (1, 2)"},
                 {9, INFINITY, "holds NaN or Inf at (2, 1)"},
                 {10, NAN, "holds nan on its diagonal, at 2"},
                 {5, -1, "holds -1 on its diagonal, at 1"},
                 {6, 5, "is not symmetric"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        *file = good;
        file->values[1][cases[i].at] = cases[i].value;
        write_grams(given.directories[1], file);
        check_refused(&sample, DIDI_NUMERIC, "gram1", cases[i].message);
        sample_start_over(&sample);
    }
    *file = good;
    file->orders[1] = 5;
    write_grams(given.directories[1], file);
    check_refused(&sample, DIDI_MISMATCH, "gram1", "must be 4 x 4");
    *file = good;
    file->count = 1;
    write_grams(given.directories[1], file);
    check_refused(&sample, DIDI_NOT_FOUND, "gram1", "holds no Gram matrix 'layer.mlp.fc.weight'");
    *file = good;
    file->dtype = DIDI_DTYPE_I32;
    write_grams(given.directories[1], file);
    check_refused(&sample, DIDI_INVALID, "gram1", "must be F32 or F64");
    grams_close(&given);
    sample_family_close(&sample);
}

/* What rounding leaves of symmetry is enough. */
static void nearly_symmetric_does(void **state)
{
    sample_family sample;
    grams given = {0};
    open_reference(&sample, &given, state);
    given.files[1].values[1][6] *= 1 + 1e-9;
    write_grams(given.directories[1], &given.files[1]);
    check_served(&sample, "{\"lambda\": 1, \"directions\": 1, \"scale\": 0.4}", one_direction);
    grams_close(&given);
    sample_family_close(&sample);
}

static void a_model_without_linear_layers_is_refused(void **state)
{
    static const char *const all[] = {"*weight"};
    sample_family sample;
    grams given = {0};
    open_reference(&sample, &given, state);
    sample.options.exclude = all;
    sample.options.exclude_count = 1;
    check_refused(&sample, DIDI_INVALID, "/method", "no tensor is the weight of a linear layer");
    grams_close(&given);
    sample_family_close(&sample);
}

/* ---- memory, threads, attempts, faults ---- */

static const sample_method cat = {"cat", "{\"directions\": 3, \"lambda\": 0.5, "
                                         "\"scale_entries\": 2, \"bias_entries\": 1, "
                                         "\"keep_length\": true}"};

static void check_all(void **state, void (*check)(sample_family *sample, const sample_method *of))
{
    sample_family sample;
    grams given = {0};
    open_shapes(&sample, &given, state);
    sample.options.method_options = cat.options;
    sample_trouble_prepare(&sample);
    check(&sample, &cat);
    grams_close(&given);
    sample_family_close(&sample);
}

static void limits_of_memory_are_kept(void **state)
{
    check_all(state, sample_numbers_check_limits);
}

static void threads_and_crashes_change_no_byte(void **state)
{
    check_all(state, sample_numbers_check_attempts);
}

static void lack_of_memory_ends_a_merge(void **state)
{
    sample_family sample;
    grams given = {0};
    open_shapes(&sample, &given, state);
    sample_numbers_check_faults(&sample, &cat);
    grams_close(&given);
    sample_family_close(&sample);
}

/* An attempt that is taken up again notices that Gram matrices are others than before. */
static void changed_grams_are_noticed(void **state)
{
    sample_family sample;
    grams given = {0};
    didi_error error = {0};
    open_shapes(&sample, &given, state);
    sample.options.method_options = cat.options;
    sample_start_over(&sample);
    sample_merge_partly(&sample.options, 5);
    given.files[2].values[0][0] += 1;
    write_grams(given.directories[2], &given.files[2]);
    assert_int_equal(sample_merge(&sample.options, 1, 0, &error), DIDI_CHANGED);
    support_assert_contains(error.message, "gram2/model.safetensors");
    grams_close(&given);
    sample_family_close(&sample);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        support_test(the_formula_is_met),
        support_test(one_task_is_left_whole),
        support_test(both_shapes_are_as_written),
        support_test(masks_are_as_written),
        support_test(grams_are_asked_for_and_only_then),
        support_test(wrong_grams_are_told),
        support_test(nearly_symmetric_does),
        support_test(a_model_without_linear_layers_is_refused),
        support_test(limits_of_memory_are_kept),
        support_test(threads_and_crashes_change_no_byte),
        support_test(lack_of_memory_ends_a_merge),
        support_test(changed_grams_are_noticed),
    };
    return cmocka_run_group_tests(tests, sample_use_one_thread, NULL);
}
