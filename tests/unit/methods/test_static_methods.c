/* SPDX-License-Identifier: Apache-2.0 */
/* TIES, KnOTS, TSV-M, ISO-C, ISO-CTS and WUDI: held to what their authors' code gives, and on
 * larger families to the same in the most obvious form; any number of threads, attempts that end
 * early, little memory. */
#include "src/math/math.h"
#include "tests/unit/sample_layer.h"
#include "tests/unit/sample_methods.h"
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

/* ---- other implementations: served weights, as methods.json of the reference has them ---- */

/* "ties_mean": tall_masks, src/utils/ties_utils.py; 20 % of 54 numbers, lambda 1. */
static const double ties_mean[REFERENCE_NUMBERS] = {
    0.570213477,  0.522809966,   -0.0904105813, -0.3787513,   0.632153342,  0.070560004,
    -0.458082968, -0.434236679,  0.33773159,    -0.40396204,  -0.619460266, 0.15309498,
    0.138109169,  -0.475801037,  -0.275342771,  0.328493299,  -0.305928945, -0.462907341,
    0.0582746024, 0.605637162,   -0.488765059,  -0.118315315, 0.233012207,  0.427299454,
    0.218504862,  -0.458082968,  -0.315633319,  0.289219882,  -0.26491807,  -0.479462137,
    -0.130685061, 0.343309573,   -0.588885921,  -0.422070349, 0.467074259,  0.451085917,
    -0.462907341, -0.0643320616, 0.494084117,   0.206059243,  -0.352798438, 0.36448452,
    0.427299454,  0.0242143664,  0.234266348,   0.613807099,  0.159549181,  -0.54678208,
    -0.610026879, -0.275342771,  -0.0735078819, 0.232149797,  0.499271673,  0.399243556};

/* "ties_sum": the same as FusionBench has it, lambda 0.3. */
static const double ties_sum[REFERENCE_NUMBERS] = {
    0.510422283,  0.417839814,   -0.18200533,  -0.457483804, 0.536728686,  0.070560004,
    -0.458082968, -0.351214327,  0.33773159,   -0.306631261, -0.521461576, 0.0518133592,
    0.0559859826, -0.475801037,  -0.275342771, 0.328493299,  -0.305928945, -0.462907341,
    0.0582746024, 0.52755003,    -0.488765059, -0.198105357, 0.325042826,  0.427299454,
    0.114943461,  -0.458082968,  -0.315633319, 0.289219882,  -0.26491807,  -0.479462137,
    -0.033320653, 0.441764757,   -0.509726502, -0.319361045, 0.370067587,  0.451085917,
    -0.462907341, 0.0214926032,  0.494084117,  0.206059243,  -0.268450294, 0.36448452,
    0.427299454,  -0.0878519093, 0.183583807,  0.567992929,  0.159549181,  -0.453773888,
    -0.557800982, -0.275342771,  0.0187398571, 0.324784103,  0.499271673,  0.399243556};

/* "tsv_m": task_singular_vectors, src/utils/TSVM_utils.py; one triplet of each task. */
static const double tsv_m[REFERENCE_NUMBERS] = {
    0.608983573,   0.444555504,     -0.0261153885,  -0.357677623,  0.387311433,  0.269009766,
    -0.497409293,  -0.282113836,    0.442382197,    -0.486536796,  -0.450305197, -0.0372979589,
    0.00858524277, -0.481444247,    -0.406368513,   0.176913937,   -0.367999998, -0.546582239,
    0.156389869,   0.640509477,     -0.375175152,   -0.0294192456, 0.33921484,   0.350106593,
    0.0427312167,  -0.388372141,    -0.137429738,   0.367074709,   -0.248518088, -0.578515391,
    -0.132326016,  0.549584796,     -0.628060084,   -0.321842934,  0.362604538,  0.221366859,
    -0.427418238,  -0.000668026403, 0.401382729,    0.302644479,   -0.264111035, 0.427406609,
    0.600694636,   -0.0582625715,   0.319072159,    0.680122819,   0.112506837,  -0.474037108,
    -0.558737079,  -0.312103976,    -0.00690292481, 0.331593799,   0.48999646,   0.436469306};

/* "tsv_m_full_rank_two_tasks": the same of the first two tasks, two triplets each. */
static const double tsv_m_two[REFERENCE_NUMBERS] = {
    0.643078973,  0.468272448,   -0.105250104, -0.425082551,  0.57445693,   0.00855122651,
    -0.290366559, -0.453416882,  0.309044587,  -0.209992801,  -0.620097236, -0.123164818,
    0.0732043895, -0.578082702,  -0.45671442,  0.325985018,   -0.362167236, -0.547823159,
    0.140026081,  0.620186092,   -0.392703328, -0.0747759685, 0.371708428,  0.503169442,
    0.237025895,  -0.515706525,  -0.224240593, 0.28241073,    -0.327236525, -0.562476667,
    0.0940336362, 0.301236961,   -0.583548827, -0.248237325,  0.134980138,  0.401631679,
    -0.479157247, -0.0576939494, 0.475133742,  0.315774458,   -0.22922934,  0.455066779,
    0.555242612,  0.00483772564, 0.299132317,  0.660220644,   0.118815015,  -0.455385382,
    -0.525678523, -0.350843358,  0.0263995537, 0.288754183,   0.540350307,  0.456250043};

/* "iso_c": iso-merging, src/utils/iso.py; and "iso_cts_default", where 0.8 of four directions are
 * all four, and common. */
static const double iso_c[REFERENCE_NUMBERS] = {
    0.681347577,  0.434093385,  -0.000435319695, -0.42161852,   0.582625568,  0.130278666,
    -0.436959341, -0.509117056, 0.44741036,      -0.402499845,  -0.702382201, 0.176760474,
    0.20817545,   -0.699118209, -0.329962908,    0.145600928,   -0.319414602, -0.636630888,
    0.225234185,  0.678362469,  -0.326870209,    -0.0256850062, 0.225833625,  0.531960295,
    0.185646202,  -0.55427393,  -0.181410362,    0.242099149,   -0.312492711, -0.51029363,
    -0.223958574, 0.483265441,  -0.515821137,    -0.387419986,  0.408080623,  0.377957272,
    -0.337472967, -0.117474704, 0.442173258,     0.401930104,   -0.289311348, 0.496341906,
    0.52249189,   0.0754707016, 0.344848182,     0.645424508,   0.11159706,   -0.456294056,
    -0.558737079, -0.312103976, -0.00690292481,  0.331593799,   0.48999646,   0.436469306};

/* "iso_cts": the same file; a quarter of the directions is common, one is of each task. */
static const double iso_cts[REFERENCE_NUMBERS] = {
    0.615220369,   0.384827839,  -0.137224217,   -0.239937101,   0.423880062,  0.0321623622,
    -0.723519573,  -0.117859529, 0.507787519,    -0.539189411,   -0.456939406, -0.0477672259,
    0.0331036944,  -0.489802049, -0.389483348,   0.202199522,    -0.461850035, -0.451382115,
    0.255330799,   0.575325536,  -0.301787504,   0.000449258409, 0.326287579,  0.369182537,
    0.0590201786,  -0.622949571, -0.044277084,   0.340466511,    -0.249382935, -0.685074444,
    -0.0984439162, 0.46761978,   -0.670641482,   -0.218613282,   0.347520633,  0.244195675,
    -0.427503124,  0.0408375863, 0.369688585,    0.340357544,    -0.262633222, 0.547728278,
    0.51177001,    0.0248211091, 0.373804246,    0.568833362,    0.217634713,  -0.561693605,
    -0.558737079,  -0.312103976, -0.00690292481, 0.331593799,    0.48999646,   0.436469306};

/* "wudi_lr1e-05_it300": WUDI-Merging, vit/wudi_main.py; the bias stays the base's. */
static const double wudi_small[REFERENCE_NUMBERS] = {
    0.757833157,  0.485267623,  -0.0564399234, -0.317324009, 0.614591538,  0.183450051,
    -0.547268024, -0.495298735, 0.444063107,   -0.384911775, -0.533122132, 0.0778920408,
    0.183272168,  -0.631540384, -0.386356157,  0.161684983,  -0.374666305, -0.695805629,
    0.278143818,  0.776446293,  -0.216773607,  0.0402378426, 0.299664344,  0.438421037,
    0.136731086,  -0.527426258, -0.259240992,  0.274226521,  -0.257273752, -0.557509259,
    -0.189043796, 0.392970188,  -0.552675893,  -0.421142264, 0.369425512,  0.433739781,
    -0.423667012, -0.110977219, 0.473789071,   0.279060978,  -0.346964852, 0.536278373,
    0.640662912,  0.0912279034, 0.436862293,   0.743789391,  0.0436410131, -0.528606679,
    -0.479462137, -0.275342771, 0.0582746024,  0.36448452,   0.499271673,  0.399243556};

/* "wudi_lr0.01_it3": the same, three large steps. */
static const double wudi_large[REFERENCE_NUMBERS] = {
    0.730927378,  0.45839045,    -0.0814479287, -0.334468362, 0.587740907,  0.156661877,
    -0.520491799, -0.468463122,  0.417718078,   -0.381314022, -0.506186789, 0.0509694689,
    0.156555428,  -0.627887407,  -0.360186995,  0.187732767,  -0.347806463, -0.66889314,
    0.25121348,   0.749518591,   -0.24368118,   0.0133889873, 0.325555689,  0.465094555,
    0.110959804,  -0.500581279,  -0.232528469,  0.290323092,  -0.283719706, -0.531136223,
    -0.162744167, 0.419800666,   -0.526566389,  -0.394408282, 0.396328654,  0.406810133,
    -0.39727802,  -0.0842524019, 0.447266286,   0.306089815,  -0.320121712, 0.509440278,
    0.613828702,  0.0643340767,  0.409949589,   0.716876616,  0.0705481124, -0.50172872,
    -0.479462137, -0.275342771,  0.0582746024,  0.36448452,   0.499271673,  0.399243556};

/* "wudi_fusionbench": FusionBench 0.2.33, method/wudi/wudi.py; 400 steps, the mean of the rest. */
static const double wudi_other[REFERENCE_NUMBERS] = {
    0.756845161,  0.484282022,  -0.0573726532,  -0.31817925,  0.613607989,  0.182470639,
    -0.546289322, -0.494316245, 0.443100947,    -0.38504483,  -0.532130819, 0.0768899002,
    0.182284915,  -0.630604289, -0.385396681,   0.162654683,  -0.373682112, -0.694817032,
    0.277153473,  0.775456215,  -0.217761775,   0.0392544171, 0.300613473,  0.439394416,
    0.135784364,  -0.526443477, -0.258265671,   0.275069048,  -0.258238051, -0.55654706,
    -0.188084174, 0.393952381,  -0.551721372,   -0.420165836, 0.370411683,  0.432749444,
    -0.422704507, -0.110001208, 0.472821761,    0.280067692,  -0.345981856, 0.535295698,
    0.639680541,  0.0902409657, 0.435873677,    0.74280077,   0.0446291108, -0.527621077,
    -0.558737079, -0.312103976, -0.00690292481, 0.331593799,  0.48999646,   0.436469306};

/* To 1e-6 of the largest number of each tensor. */
static void check_served(sample_family *sample, const char *method, const char *options,
                         const double *wanted)
{
    static const size_t ends[] = {24, 48, REFERENCE_NUMBERS};
    float served[REFERENCE_NUMBERS];
    didi_error error = {0};
    sample->options.method = method;
    sample->options.method_options = options;
    sample_start_over(sample);
    sample_must(sample_merge(&sample->options, 2, 0, &error), &error);
    for (size_t t = 0; t < sample->options.task_count; t++) {
        size_t n = 0;
        sample_reference_served(sample, "package", t, served);
        for (size_t k = 0; k < 3; k++) {
            double largest = 0;
            for (size_t i = n; i < ends[k]; i++)
                largest = fmax(largest, fabs(wanted[i]));
            for (; n < ends[k]; n++)
                if (!(fabs((double)served[n] - wanted[n]) <= 1e-6 * largest))
                    fail_msg("%s %s: number %zu is %.9g, not %.9g", method,
                             options != NULL ? options : "", n, (double)served[n], wanted[n]);
        }
    }
}

static void the_references_are_met(void **state)
{
    sample_family sample;
    sample_reference_create(&sample, support_directory(state));
    check_served(&sample, "ties", NULL, ties_mean);
    check_served(&sample, "ties", "{\"density\": 0.2, \"combine\": \"mean\", \"scale\": 1}",
                 ties_mean);
    check_served(&sample, "ties", "{\"combine\": \"sum\", \"scale\": 0.3}", ties_sum);
    check_served(&sample, "tsv_m", NULL, tsv_m);
    check_served(&sample, "iso_c", NULL, iso_c);
    check_served(&sample, "iso_cts", "{\"common\": 0.25}", iso_cts);
    check_served(&sample, "iso_cts", NULL, iso_c);
    check_served(&sample, "wudi", NULL, wudi_small);
    check_served(&sample, "wudi", "{\"rate\": 0.01, \"steps\": 3}", wudi_large);
    check_served(&sample, "wudi", "{\"steps\": 400, \"matrices\": \"all\", \"rest\": \"mean\"}",
                 wudi_other);
    sample.options.task_count = 2;
    check_served(&sample, "tsv_m", NULL, tsv_m_two);
    sample.options.task_count = REFERENCE_TASKS;
    sample_family_close(&sample);
}

/* What matrices get is in proportion to the scale; the mean of the rest is not. */
static void scales_are_factors(void **state)
{
    static const struct {
        const char *method;
        const double *whole;
        bool everywhere;
    } cases[] = {{"ties", ties_mean, true},
                 {"tsv_m", tsv_m, false},
                 {"iso_c", iso_c, false},
                 {"iso_cts", iso_c, false},
                 {"wudi", wudi_small, false}};
    sample_family sample;
    sample_reference_create(&sample, support_directory(state));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        double wanted[REFERENCE_NUMBERS];
        for (size_t n = 0; n < REFERENCE_NUMBERS; n++) {
            double scale = n < 48 || cases[i].everywhere ? 1.5 : 1;
            double base = sample_reference_base(n);
            wanted[n] = base + scale * (cases[i].whole[n] - base);
        }
        check_served(&sample, cases[i].method, "{\"scale\": 1.5}", wanted);
    }
    sample_family_close(&sample);
}

/* ---- TIES as it is written ---- */

static int by_size(const void *a, const void *b)
{
    float x = *(const float *)a;
    float y = *(const float *)b;
    return (x > y) - (x < y);
}

/* The (d - q)-th smallest magnitude, q a share of d. */
static float threshold_of(const float *tau, size_t count, double density)
{
    float *sorted = support_allocate(count * sizeof *sorted);
    size_t q = (size_t)(density * (double)count);
    for (size_t i = 0; i < count; i++)
        sorted[i] = fabsf(tau[i]);
    qsort(sorted, count, sizeof *sorted, by_size);
    float threshold = q < count ? sorted[count - q - 1] : 0;
    free(sorted);
    return threshold;
}

/* What a rule is of, and what it gives. */
typedef struct vote {
    const float *tau[NUMBERS_TASKS];
    size_t count;
    const double *weight;
    double density;
    bool sum;
    size_t ties; /* found: sums of zero that had values to choose from */
} vote;

static double kept(const vote *of, size_t task, size_t i, const float *threshold)
{
    float tau = of->tau[task][i];
    return fabsf(tau) >= threshold[task] ? (double)tau : 0;
}

static void ties_rule(vote *of, float *wanted)
{
    float threshold[NUMBERS_TASKS];
    double *total = support_allocate(of->count * sizeof *total);
    long long signs = 0;
    of->ties = 0;
    for (size_t t = 0; t < NUMBERS_TASKS; t++)
        threshold[t] = threshold_of(of->tau[t], of->count, of->density);
    for (size_t i = 0; i < of->count; i++) {
        total[i] = 0;
        for (size_t t = 0; t < NUMBERS_TASKS; t++)
            total[i] += of->weight[t] * kept(of, t, i, threshold);
        signs += (total[i] > 0) - (total[i] < 0);
    }
    for (size_t i = 0; i < of->count; i++) {
        bool positive = total[i] > 0 || (total[i] == 0 && signs > 0);
        double value = 0;
        double share = 0;
        for (size_t t = 0; t < NUMBERS_TASKS; t++) {
            double x = kept(of, t, i, threshold);
            bool agrees = positive ? x > 0 : x < 0;
            value += agrees ? of->weight[t] * x : 0;
            share += agrees ? of->weight[t] : 0;
        }
        of->ties += total[i] == 0 && share > 0;
        wanted[i] = (float)(of->sum || share == 0 ? value : value / share);
    }
    free(total);
}

/* Returns how many sums of zero there were. */
static size_t check_ties(const sample_numbers *of, const double *weight, double density, bool sum)
{
    static float wanted[NUMBERS_ALL];
    vote by = {.count = NUMBERS_ALL, .weight = weight, .density = density, .sum = sum};
    for (size_t t = 0; t < NUMBERS_TASKS; t++)
        by.tau[t] = of->tau[t];
    ties_rule(&by, wanted);
    for (size_t i = 0; i < NUMBERS_ALL; i++)
        sample_assert_near((double)of->served[i], (double)wanted[i], 1e-6);
    return by.ties;
}

static void ties_keeps_the_largest_that_agree(void **state)
{
    static const double alike[NUMBERS_TASKS] = {1, 1, 1, 1};
    static const double other[NUMBERS_TASKS] = {2, 1, 1, 4};
    sample_family sample;
    sample_numbers *of =
        sample_numbers_create(&sample, state, "ties", &(sample_filling){.seed = 1, .coarse = true});
    sample_numbers_merge(&sample, NULL, of);
    assert_true(check_ties(of, alike, 0.2, false) > 100);
    sample_numbers_merge(&sample, "{\"density\": 1}", of);
    assert_true(check_ties(of, alike, 1, false) > 100);
    sample_numbers_merge(&sample, "{\"density\": 0.031, \"combine\": \"sum\"}", of);
    (void)check_ties(of, alike, 0.031, true);
    for (size_t t = 0; t < NUMBERS_TASKS; t++)
        sample.inputs[t].weight = other[t];
    sample_numbers_merge(&sample, "{\"density\": 0.5}", of);
    assert_true(check_ties(of, other, 0.5, false) > 100);
    free(of);
    sample_family_close(&sample);
}

/* Thresholds are of whole models: what no task changed counts as zeros. */
static void unchanged_tensors_count_for_thresholds(void **state)
{
    static const double alike[NUMBERS_TASKS] = {1, 1, 1, 1};
    static const struct {
        const char *options;
        double density;
    } cases[] = {{"{\"density\": 0.01}", 0.01}, {"{\"density\": 0.2}", 0.2}};
    sample_family sample;
    sample_numbers *of =
        sample_numbers_create(&sample, state, "ties", &(sample_filling){.seed = 1, .narrow = true});
    for (size_t i = 0; i < 2; i++) {
        sample_numbers_merge(&sample, cases[i].options, of);
        (void)check_ties(of, alike, cases[i].density, false);
    }
    free(of);
    sample_family_close(&sample);
}

/* ---- matrices, by LAPACK ---- */

typedef struct decomposed {
    size_t m, n, r;
    float *u, *v; /* r x m, r x n */
    double *sigma;
} decomposed;

static decomposed decompose(size_t m, size_t n, const float *x)
{
    size_t r = m < n ? m : n;
    didi_error error = {0};
    float *copy = support_allocate(m * n * sizeof *copy);
    decomposed of = {m,
                     n,
                     r,
                     support_allocate(r * m * sizeof(float)),
                     support_allocate(r * n * sizeof(float)),
                     support_allocate(r * sizeof(double))};
    memcpy(copy, x, m * n * sizeof *copy);
    sample_must(linalg_svd(m, n, copy, of.u, of.sigma, of.v, &error), &error);
    free(copy);
    return of;
}

static void forget(decomposed *of)
{
    free(of->u);
    free(of->v);
    free(of->sigma);
}

/* out (m x n) = sum over `count` triplets of sigma_i, or of `all` if that is not NAN, u_i v_i'. */
static void rebuild(const decomposed *of, size_t count, double all, float *out)
{
    for (size_t i = 0; i < of->m; i++)
        for (size_t j = 0; j < of->n; j++) {
            double sum = 0;
            for (size_t k = 0; k < count; k++)
                sum += (isnan(all) ? of->sigma[k] : all) * (double)of->u[k * of->m + i] *
                       (double)of->v[k * of->n + j];
            out[i * of->n + j] = (float)sum;
        }
}

static void iso_c_has_equal_singular_values(void **state)
{
    sample_family sample;
    sample_numbers *of =
        sample_numbers_create(&sample, state, "iso_c", &(sample_filling){.seed = 3});
    sample_numbers_merge(&sample, NULL, of);
    for (size_t k = 0; k < 2; k++) {
        static float sum[NUMBERS_WIDE];
        static float wanted[NUMBERS_WIDE];
        size_t first = k == 0 ? 0 : NUMBERS_TALL;
        double mean = 0;
        for (size_t i = 0; i < sample_numbers_sizes[k]; i++) {
            sum[i] = 0;
            for (size_t t = 0; t < NUMBERS_TASKS; t++)
                sum[i] += of->tau[t][first + i];
        }
        decomposed parts = decompose(sample_numbers_shapes[k][0], sample_numbers_shapes[k][1], sum);
        for (size_t i = 0; i < parts.r; i++)
            mean += parts.sigma[i] / (double)parts.r;
        rebuild(&parts, parts.r, mean, wanted);
        sample_numbers_near(of->served + first, wanted, sample_numbers_sizes[k], 2e-6);
        forget(&parts);
    }
    sample_numbers_mean(of);
    free(of);
    sample_family_close(&sample);
}

/* M = polar(U) diag(sigma) polar(V)' of the first r / T triplets of each task. */
static void tsv_m_of(const sample_numbers *of, size_t k, size_t first, float *wanted)
{
    size_t m = sample_numbers_shapes[k][0];
    size_t n = sample_numbers_shapes[k][1];
    size_t share = (m < n ? m : n) / NUMBERS_TASKS;
    size_t all = share * NUMBERS_TASKS;
    float *left = support_allocate(all * m * sizeof *left);
    float *right = support_allocate(all * n * sizeof *right);
    double *sigma = support_allocate(all * sizeof *sigma);
    for (size_t t = 0; t < NUMBERS_TASKS; t++) {
        decomposed one = decompose(m, n, of->tau[t] + first);
        memcpy(left + t * share * m, one.u, share * m * sizeof *left);
        memcpy(right + t * share * n, one.v, share * n * sizeof *right);
        memcpy(sigma + t * share, one.sigma, share * sizeof *sigma);
        forget(&one);
    }
    decomposed l = decompose(all, m, left);
    decomposed r = decompose(all, n, right);
    rebuild(&l, all, 1, left);
    rebuild(&r, all, 1, right);
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) {
            double sum = 0;
            for (size_t q = 0; q < all; q++)
                sum += sigma[q] * (double)left[q * m + i] * (double)right[q * n + j];
            wanted[i * n + j] = (float)sum;
        }
    forget(&l);
    forget(&r);
    free(left);
    free(right);
    free(sigma);
}

static void tsv_m_joins_orthonormal_vectors(void **state)
{
    sample_family sample;
    static float wanted[NUMBERS_WIDE];
    sample_numbers *of =
        sample_numbers_create(&sample, state, "tsv_m", &(sample_filling){.seed = 3});
    sample_numbers_merge(&sample, NULL, of);
    tsv_m_of(of, 0, 0, wanted);
    sample_numbers_near(of->served, wanted, NUMBERS_TALL, 2e-5);
    tsv_m_of(of, 1, NUMBERS_TALL, wanted);
    sample_numbers_near(of->served + NUMBERS_TALL, wanted, NUMBERS_WIDE, 2e-5);
    sample_numbers_mean(of);
    free(of);
    sample_family_close(&sample);
}

/* Directions that tasks have in common count once: no noise stands in for the others. */
static void equal_tasks_give_what_they_have_in_common(void **state)
{
    static float wanted[NUMBERS_TALL];
    sample_family sample;
    sample_numbers *of =
        sample_numbers_create(&sample, state, "tsv_m", &(sample_filling){.seed = 3});
    for (size_t t = 1; t < NUMBERS_TASKS; t++)
        sample_numbers_write(&sample, t, &(sample_filling){.seed = 3});
    sample_numbers_merge(&sample, NULL, of);
    decomposed parts =
        decompose(sample_numbers_shapes[0][0], sample_numbers_shapes[0][1], of->tau[0]);
    rebuild(&parts, parts.r / NUMBERS_TASKS, NAN, wanted);
    sample_numbers_near(of->served, wanted, NUMBERS_TALL, 2e-5);
    forget(&parts);
    free(of);
    sample_family_close(&sample);
}

/* With as many tasks as the shorter side of a matrix has rows nothing is left for it. */
static void too_many_tasks_leave_a_matrix_as_it_was(void **state)
{
    float served[REFERENCE_NUMBERS];
    didi_task_input inputs[5];
    sample_family sample;
    didi_error error = {0};
    sample_reference_create(&sample, support_directory(state));
    for (size_t t = 0; t < 5; t++) {
        static const char *const names[] = {"t0", "t1", "t2", "t3", "t4"};
        inputs[t] = sample.inputs[t % REFERENCE_TASKS];
        inputs[t].name = names[t];
    }
    sample.options.tasks = inputs;
    sample.options.task_count = 5;
    sample.options.method = "tsv_m";
    sample_must(sample_merge(&sample.options, 2, 0, &error), &error);
    sample_reference_served(&sample, "package", 0, served);
    for (size_t n = 0; n < 48; n++)
        assert_true(served[n] == (float)sample_reference_base(n));
    sample.options.tasks = sample.inputs;
    sample.options.task_count = REFERENCE_TASKS;
    sample_family_close(&sample);
}

/* ---- KnOTS as it is written ---- */

/* Left singular vectors of the task vectors side by side (m x T n). */
static decomposed directions_of(const sample_numbers *of, size_t k, size_t first)
{
    size_t m = sample_numbers_shapes[k][0];
    size_t n = sample_numbers_shapes[k][1];
    float *beside = support_allocate(m * n * NUMBERS_TASKS * sizeof *beside);
    for (size_t i = 0; i < m; i++)
        for (size_t t = 0; t < NUMBERS_TASKS; t++)
            memcpy(beside + (i * NUMBERS_TASKS + t) * n, of->tau[t] + first + i * n,
                   n * sizeof *beside);
    decomposed found = decompose(m, n * NUMBERS_TASKS, beside);
    free(beside);
    return found;
}

static void knots_ties_in_directions_of_all_tasks(void **state)
{
    static const double alike[NUMBERS_TASKS] = {1, 1, 1, 1};
    static float wanted[NUMBERS_ALL], merged[NUMBERS_ALL];
    sample_family sample;
    sample_numbers *of =
        sample_numbers_create(&sample, state, "knots", &(sample_filling){.seed = 3});
    sample_numbers *turned = support_allocate(sizeof *turned);
    vote by = {.count = NUMBERS_LONG + NUMBERS_SHORT, .weight = alike, .density = 0.2};
    sample_numbers_merge(&sample, NULL, of);
    decomposed parts[2] = {directions_of(of, 0, 0), directions_of(of, 1, NUMBERS_TALL)};
    size_t rank[2] = {84, 35}; /* of 90 rows no more than 4 * 21 are independent */
    for (size_t t = 0; t < NUMBERS_TASKS; t++) {
        float *next = turned->tau[t];
        const float *tau = of->tau[t];
        by.tau[t] = next;
        for (size_t k = 0; k < 2; tau += sample_numbers_sizes[k++]) {
            size_t n = sample_numbers_shapes[k][1];
            linalg_gemm(false, false, rank[k], n, parts[k].m, 1.0F, parts[k].u, parts[k].m, tau, n,
                        0.0F, next, n);
            next += rank[k] * n;
        }
        memcpy(next, tau, (NUMBERS_LONG + NUMBERS_SHORT) * sizeof *next);
    }
    by.count += rank[0] * 21 + rank[1] * 60;
    ties_rule(&by, merged);
    const float *next = merged;
    float *out = wanted;
    for (size_t k = 0; k < 2; out += sample_numbers_sizes[k++]) {
        size_t n = sample_numbers_shapes[k][1];
        linalg_gemm(true, false, parts[k].m, n, rank[k], 1.0F, parts[k].u, parts[k].m, next, n,
                    0.0F, out, n);
        next += rank[k] * n;
        forget(&parts[k]);
    }
    memcpy(out, next, (NUMBERS_LONG + NUMBERS_SHORT) * sizeof *out);
    for (size_t i = 0; i < NUMBERS_ALL; i++)
        wanted[i] *= 0.6F;
    sample_numbers_near(of->served, wanted, NUMBERS_ALL, 5e-5);
    free(turned);
    free(of);
    sample_family_close(&sample);
}

/* ---- WUDI as it is written ---- */

/* gradient (m x n) += 2 (M - tau) tau' tau / |tau|^2 */
static void add_gradient(size_t m, size_t n, const double *at, const float *tau, double *gradient)
{
    double *miss = support_allocate(m * m * sizeof *miss);
    double energy = linalg_energy(tau, m * n);
    for (size_t i = 0; i < m; i++)
        for (size_t k = 0; k < m; k++) {
            miss[i * m + k] = 0;
            for (size_t j = 0; j < n; j++)
                miss[i * m + k] +=
                    (at[i * n + j] - (double)tau[i * n + j]) * (double)tau[k * n + j];
        }
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++)
            for (size_t k = 0; k < m; k++)
                gradient[i * n + j] += 2 * miss[i * m + k] * (double)tau[k * n + j] / energy;
    free(miss);
}

static void wudi_of(const sample_numbers *of, size_t k, size_t first, size_t steps, float *wanted)
{
    enum { MOST = NUMBERS_WIDE };
    static double at[MOST], one[MOST], two[MOST], gradient[MOST];
    size_t size = sample_numbers_sizes[k];
    double energy = 0;
    for (size_t i = 0; i < size; i++) {
        at[i] = one[i] = two[i] = 0;
        for (size_t t = 0; t < NUMBERS_TASKS; t++)
            at[i] += (double)of->tau[t][first + i];
        energy += at[i] * at[i];
    }
    double rate = 0.02 * sqrt(energy / (double)size);
    for (size_t s = 1; s <= steps; s++) {
        memset(gradient, 0, sizeof gradient);
        for (size_t t = 0; t < NUMBERS_TASKS; t++)
            add_gradient(sample_numbers_shapes[k][0], sample_numbers_shapes[k][1], at,
                         of->tau[t] + first, gradient);
        for (size_t i = 0; i < size; i++) {
            one[i] = 0.9 * one[i] + 0.1 * gradient[i];
            two[i] = 0.999 * two[i] + 0.001 * gradient[i] * gradient[i];
            at[i] -= rate * one[i] / (1 - pow(0.9, (double)s)) /
                     (sqrt(two[i] / (1 - pow(0.999, (double)s))) + 1e-8);
        }
    }
    for (size_t i = 0; i < size; i++)
        wanted[i] = (float)at[i];
}

/* Steps in proportion to the summed task vectors; what is no layer stays the base's. */
static void wudi_descends_by_relative_steps(void **state)
{
    enum { STEPS = 6 };
    static float wanted[NUMBERS_WIDE];
    sample_family sample;
    sample_numbers *of =
        sample_numbers_create(&sample, state, "wudi", &(sample_filling){.seed = 3});
    sample_numbers_merge(&sample, "{\"relative_rate\": 0.02, \"steps\": 6}", of);
    wudi_of(of, 0, 0, STEPS, wanted);
    sample_numbers_near(of->served, wanted, NUMBERS_TALL, 1e-5);
    wudi_of(of, 1, NUMBERS_TALL, STEPS, wanted);
    sample_numbers_near(of->served + NUMBERS_TALL, wanted, NUMBERS_WIDE, 1e-5);
    for (size_t i = NUMBERS_TALL + NUMBERS_WIDE; i < NUMBERS_ALL; i++)
        assert_true(of->served[i] == 0);
    free(of);
    sample_family_close(&sample);
}

static void wudi_asks_for_matrices_it_knows(void **state)
{
    sample_family sample;
    didi_merge *merge = NULL;
    didi_error error = {0};
    sample_family_create(&sample, support_directory(state), 2);
    sample.options.budget = 0;
    sample.options.method = "wudi";
    assert_int_equal(didi_merge_open(&sample.options, NULL, &merge, &error), DIDI_INVALID);
    assert_string_equal(error.subject, "/method_options/matrices");
    sample.options.method_options = "{\"matrices\": \"all\"}";
    sample_must(didi_merge_open(&sample.options, NULL, &merge, &error), &error);
    didi_merge_close(merge);
    sample_family_close(&sample);
}

/* ---- options, memory, threads, attempts ---- */

static const sample_method all[] = {
    {"ties", NULL},    {"knots", NULL},
    {"tsv_m", NULL},   {"iso_c", NULL},
    {"iso_cts", NULL}, {"wudi", "{\"steps\": 4, \"matrices\": \"all\", \"rest\": \"mean\"}"}};
enum { ALL = sizeof all / sizeof *all };

static void options_out_of_range_are_refused(void **state)
{
    static const sample_refusal cases[] = {
        {"ties", "{\"density\": 0}", "/method_options/density"},
        {"ties", "{\"density\": 1.1}", "/method_options/density"},
        {"ties", "{\"combine\": \"max\"}", "/method_options/combine"},
        {"ties", "{\"scale\": 0}", "/method_options/scale"},
        {"knots", "{\"density\": 0}", "/method_options/density"},
        {"knots", "{\"density\": 0}", "/method_options/density"},
        {"knots", "{\"common\": 0.5}", "/method_options/common"},
        {"tsv_m", "{\"scale\": 11}", "/method_options/scale"},
        {"tsv_m", "{\"density\": 0.2}", "/method_options/density"},
        {"iso_c", "{\"scale\": -1}", "/method_options/scale"},
        {"iso_c", "{\"common\": 0.8}", "/method_options/common"},
        {"iso_cts", "{\"common\": 1.1}", "/method_options/common"},
        {"iso_cts", "{\"scale\": 0}", "/method_options/scale"},
        {"wudi", "{\"rate\": 0}", "/method_options/rate"},
        {"wudi", "{\"relative_rate\": -1}", "/method_options/relative_rate"},
        {"wudi", "{\"steps\": 0.5}", "/method_options/steps"},
        {"wudi", "{\"matrices\": \"none\"}", "/method_options/matrices"},
        {"wudi", "{\"rest\": \"zero\"}", "/method_options/rest"},
        {"wudi", "{\"scale\": 0}", "/method_options/scale"},
    };
    sample_family sample;
    sample_reference_create(&sample, support_directory(state));
    sample_methods_refuse(&sample, cases, sizeof cases / sizeof *cases);
    sample_family_close(&sample);
}

/* Memory, threads, attempts, faults: a method at a time. */
static void limits_of_memory_are_kept(void **state)
{
    sample_numbers_check_all(state, all, ALL, sample_numbers_check_limits);
}

static void threads_and_crashes_change_no_byte(void **state)
{
    sample_numbers_check_all(state, all, ALL, sample_numbers_check_attempts);
}

static void lack_of_memory_ends_a_merge(void **state)
{
    sample_family sample;
    sample_reference_create(&sample, support_directory(state));
    for (size_t i = 0; i < ALL; i++)
        sample_numbers_check_faults(&sample, &all[i]);
    sample_family_close(&sample);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        support_test(the_references_are_met),
        support_test(scales_are_factors),
        support_test(ties_keeps_the_largest_that_agree),
        support_test(unchanged_tensors_count_for_thresholds),
        support_test(iso_c_has_equal_singular_values),
        support_test(tsv_m_joins_orthonormal_vectors),
        support_test(equal_tasks_give_what_they_have_in_common),
        support_test(too_many_tasks_leave_a_matrix_as_it_was),
        support_test(knots_ties_in_directions_of_all_tasks),
        support_test(wudi_descends_by_relative_steps),
        support_test(wudi_asks_for_matrices_it_knows),
        support_test(options_out_of_range_are_refused),
        support_test(limits_of_memory_are_kept),
        support_test(threads_and_crashes_change_no_byte),
        support_test(lack_of_memory_ends_a_merge),
    };
    return cmocka_run_group_tests(tests, sample_use_one_thread, NULL);
}
