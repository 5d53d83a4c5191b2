/* SPDX-License-Identifier: Apache-2.0 */
/* Methods whose experts pick of what is shared: held to other implementations and to their formulas
 * in double, in every dtype, with any number of threads, after attempts that end early. */
#include "tests/unit/sample_layer.h"
#include "tests/unit/sample_manifest.h"
#include "tests/unit/sample_methods.h"
#include "tests/unit/sample_reference.h"
#include "tests/unit/sample_summary.h"
#include "tests/unit/support.h"

#include "src/base/file.h"
#include "src/math/random.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TASKS = 3 };

static const char *const methods[] = {"emr", "tall_ties", "mmer", "consensus", "bitdelta", "free"};
enum { METHODS = sizeof methods / sizeof *methods, FREE = METHODS - 1 }; /* of other names */

/* ---- other implementations: served weights, as methods.json of the reference has them ---- */

/* "emr": EMR_Merging merge_vit/src/main_emr_merging.py. */
static const double emr_of_tensors[REFERENCE_TASKS][REFERENCE_NUMBERS] = {
    {0.574604311,  0.513420195,   -0.0986038984, -0.385794066, 0.623617433,  0.174445089,
     -0.458082968, -0.426810178,  0.389788304,   -0.395255624, -0.610694104, 0.00840695024,
     0.0207903312, -0.58214616,   -0.325610066,  0.235114002,  -0.331497445, -0.540146344,
     0.146772654,  0.598652126,   -0.393609363,  -0.12545268,  0.36448452,   0.539751021,
     0.209241106,  -0.458082968,  -0.244406568,  0.257188849,  -0.204703989, -0.544280434,
     -0.121975637, 0.352116569,   -0.581804967,  -0.412882815, 0.328493299,  0.451085917,
     -0.462907341, -0.0566548889, 0.494084117,   0.243529243,  -0.23230109,  0.421585803,
     0.502134756,  0.0141898338,  0.248931626,   0.623402341,  0.159549181,  -0.538462328,
     -0.479462137, -0.371551199,  -0.0652561535, 0.240436105,  0.499271673,  0.482709487},
    {0.570564056,   0.509729201,   -0.221260222, -0.491226306, 0.495832405,  0.070560004,
     -0.542847096,  -0.315633319,  0.388421409,  -0.26491807,  -0.479462137, 0.00840695024,
     0.127875459,   -0.579353772,  -0.324290158, 0.237565936,  -0.330826072, -0.538118218,
     0.144448891,   0.595906401,   -0.396107941, -0.128258283, 0.36448452,   0.427299454,
     0.205599647,   -0.534409459,  -0.315633319, 0.289219882,  -0.26491807,  -0.542578449,
     0.00840695024, 0.483959836,   -0.475801037, -0.275342771, 0.328493299,  0.397038275,
     -0.462907341,  -0.0536370946, 0.425046537,  0.242545364,  -0.342287467, 0.42008645,
     0.500169747,   0.0102493236,  0.24521952,   0.620142944,  0.0813709557, -0.535191944,
     -0.612171655,  -0.369024979,  0.0582746024, 0.243693342,  0.499271673,  0.480517856},
    {0.582623153,  0.372852606,  -0.0922116893, -0.380299487, 0.630276923,  0.179859039,
     -0.549669419, -0.432604137, 0.392501228,   -0.402048139, -0.479462137, 0.151103391,
     0.136494309,  -0.475801037, -0.328229736,  0.230247559,  -0.332829942, -0.544171639,
     0.151384711,  0.604101666,  -0.388650344,  -0.119884297, 0.234821886,  0.427299454,
     0.070560004,  -0.54055267,  -0.2406946,    0.255519558,  -0.201565945, -0.479462137,
     -0.128770499, 0.483959836,  -0.58732934,   -0.420050686, 0.465166731,  0.451085917,
     -0.357978408, 0.0582746024, 0.41948998,    0.245481985,  -0.351139826, 0.424561625,
     0.506034783,  -0.135880313, 0.25629918,    0.629871385,  0.0750787056, -0.413913235,
     -0.622852909, -0.275342771, -0.0716939335, 0.36448452,   0.390802649,  0.399243556},
};

/* "tall_ta_0.4": tall_masks src/utils/tallmask_utils.py, over the sum. */
static const double tall_of_sums[REFERENCE_TASKS][REFERENCE_NUMBERS] = {
    {0.760818578,  0.488250335,  -0.0535224089, -0.314500021, 0.617571398,  0.186424902,
     -0.458082968, -0.498277306, 0.447010662,   -0.383029768, -0.536110018, 0.080909007,
     0.0207903312, -0.633642875, -0.389306547,  0.328493299,  -0.377646972, -0.698791652,
     0.0582746024, 0.779434126,  -0.213788126,  -0.23230109,  0.296725745,  0.43545354,
     0.139666132,  -0.530405993, -0.262210581,  0.271410406,  -0.254317174, -0.560463067,
     -0.191994793, 0.389992022,  -0.555620713,  -0.424113431, 0.366441158,  0.436727882,
     -0.42662138,  -0.113947845, 0.476749091,   0.276051152,  -0.23230109,  0.539257159,
     0.643641354,  0.0942118958, 0.43984834,    0.746775446,  0.159549181,  -0.413913235,
     -0.479462137, -0.385626387, -0.137257979,  0.36448452,   0.471446035,  0.510920804},
    {0.760818578,   0.488250335,  -0.221260222, -0.491226306, 0.495832405,  0.070560004,
     -0.458082968,  -0.315633319, 0.447010662,  -0.383029768, -0.479462137, 0.00840695024,
     0.186255135,   -0.633642875, -0.389306547, 0.328493299,  -0.377646972, -0.698791652,
     0.28113198,    0.779434126,  -0.213788126, 0.0432175472, 0.36448452,   0.43545354,
     0.070560004,   -0.530405993, -0.262210581, 0.271410406,  -0.254317174, -0.560463067,
     0.00840695024, 0.483959836,  -0.555620713, -0.275342771, 0.328493299,  0.436727882,
     -0.462907341,  -0.113947845, 0.476749091,  0.276051152,  -0.349944051, 0.539257159,
     0.643641354,   0.0942118958, 0.43984834,   0.746775446,  0.0406555977, -0.531589057,
     -0.717286961,  -0.385626387, 0.0582746024, 0.265812355,  0.499271673,  0.399243556},
    {0.420735492,  0.372852606,  -0.0535224089, -0.314500021, 0.495832405,  0.186424902,
     -0.550242014, -0.498277306, 0.33773159,    -0.383029768, -0.536110018, 0.080909007,
     0.186255135,  -0.475801037, -0.275342771,  0.158723972,  -0.305928945, -0.698791652,
     0.28113198,   0.494084117,  -0.213788126,  0.0432175472, 0.296725745,  0.43545354,
     0.139666132,  -0.530405993, -0.262210581,  0.271410406,  -0.254317174, -0.479462137,
     -0.191994793, 0.483959836,  -0.555620713,  -0.424113431, 0.366441158,  0.436727882,
     -0.42662138,  0.0582746024, 0.476749091,   0.206059243,  -0.349944051, 0.539257159,
     0.643641354,  -0.135880313, 0.107559994,   0.499271673,  0.0406555977, -0.413913235,
     -0.717286961, -0.275342771, -0.137257979,  0.36448452,   0.471446035,  0.399243556},
};

/* "tall_ties_0.4": the same over TIES(20 %, sum). */
static const double tall_of_ties[REFERENCE_TASKS][REFERENCE_NUMBERS] = {
    {0.719691462,  0.522809966,   -0.0904105813, -0.3787513,   0.632153342,  0.070560004,
     -0.458082968, -0.434236679,  0.33773159,    -0.40396204,  -0.619460266, 0.00840695024,
     0.0207903312, -0.475801037,  -0.275342771,  0.328493299,  -0.305928945, -0.462907341,
     0.0582746024, 0.605637162,   -0.488765059,  -0.118315315, 0.36448452,   0.427299454,
     0.218504862,  -0.458082968,  -0.315633319,  0.289219882,  -0.26491807,  -0.479462137,
     -0.130685061, 0.343309573,   -0.588885921,  -0.422070349, 0.328493299,  0.451085917,
     -0.462907341, -0.0643320616, 0.494084117,   0.206059243,  -0.23230109,  0.36448452,
     0.427299454,  0.0242143664,  0.360972703,   0.728342526,  0.159549181,  -0.413913235,
     -0.479462137, -0.275342771,  -0.0735078819, 0.36448452,   0.499271673,  0.399243556},
    {0.719691462,   0.372852606,   -0.221260222, -0.491226306, 0.495832405,  0.070560004,
     -0.458082968,  -0.315633319,  0.33773159,   -0.40396204,  -0.479462137, 0.00840695024,
     0.138109169,   -0.475801037,  -0.275342771, 0.328493299,  -0.305928945, -0.462907341,
     0.0582746024,  0.605637162,   -0.488765059, -0.118315315, 0.36448452,   0.427299454,
     0.070560004,   -0.458082968,  -0.315633319, 0.289219882,  -0.26491807,  -0.479462137,
     0.00840695024, 0.483959836,   -0.588885921, -0.275342771, 0.328493299,  0.451085917,
     -0.462907341,  -0.0643320616, 0.494084117,  0.206059243,  -0.352798438, 0.36448452,
     0.427299454,   0.0242143664,  0.360972703,  0.728342526,  0.159549181,  -0.54678208,
     -0.74059162,   -0.275342771,  0.0582746024, 0.232149797,  0.499271673,  0.399243556},
    {0.420735492,  0.372852606,  -0.0904105813, -0.3787513,   0.495832405,  0.070560004,
     -0.458082968, -0.434236679, 0.33773159,    -0.40396204,  -0.479462137, 0.15309498,
     0.138109169,  -0.475801037, -0.275342771,  0.328493299,  -0.305928945, -0.462907341,
     0.0582746024, 0.605637162,  -0.488765059,  -0.118315315, 0.233012207,  0.427299454,
     0.070560004,  -0.458082968, -0.315633319,  0.289219882,  -0.26491807,  -0.479462137,
     -0.130685061, 0.483959836,  -0.588885921,  -0.422070349, 0.467074259,  0.451085917,
     -0.462907341, 0.0582746024, 0.494084117,   0.206059243,  -0.352798438, 0.36448452,
     0.427299454,  -0.135880313, 0.360972703,   0.499271673,  0.159549181,  -0.413913235,
     -0.74059162,  -0.275342771, -0.0735078819, 0.36448452,   0.499271673,  0.399243556},
};

/* "tall_ties_1": the same with lambda 1. */
static const double tall_of_ties_1[REFERENCE_TASKS][REFERENCE_NUMBERS] = {
    {0.719691462,  0.522809966,  -0.0904105813, -0.3787513,   0.632153342,  0.070560004,
     -0.458082968, -0.434236679, 0.33773159,    -0.40396204,  -0.619460266, 0.00840695024,
     0.0207903312, -0.475801037, -0.275342771,  0.328493299,  -0.305928945, -0.462907341,
     0.0582746024, 0.605637162,  -0.488765059,  -0.118315315, 0.36448452,   0.427299454,
     0.218504862,  -0.458082968, -0.315633319,  0.289219882,  -0.26491807,  -0.479462137,
     -0.130685061, 0.343309573,  -0.588885921,  -0.422070349, 0.328493299,  0.451085917,
     -0.462907341, 0.0582746024, 0.494084117,   0.206059243,  -0.23230109,  0.36448452,
     0.427299454,  0.0242143664, 0.360972703,   0.728342526,  0.159549181,  -0.413913235,
     -0.479462137, -0.275342771, -0.0735078819, 0.36448452,   0.499271673,  0.399243556},
    {0.420735492,   0.372852606,   -0.221260222, -0.491226306, 0.495832405,  0.070560004,
     -0.458082968,  -0.315633319,  0.33773159,   -0.26491807,  -0.479462137, 0.00840695024,
     0.138109169,   -0.475801037,  -0.275342771, 0.328493299,  -0.305928945, -0.462907341,
     0.0582746024,  0.605637162,   -0.488765059, -0.118315315, 0.36448452,   0.427299454,
     0.070560004,   -0.458082968,  -0.315633319, 0.289219882,  -0.26491807,  -0.479462137,
     0.00840695024, 0.483959836,   -0.475801037, -0.275342771, 0.328493299,  0.451085917,
     -0.462907341,  -0.0643320616, 0.494084117,  0.206059243,  -0.23230109,  0.36448452,
     0.427299454,   -0.135880313,  0.107559994,  0.499271673,  0.159549181,  -0.54678208,
     -0.479462137,  -0.275342771,  0.0582746024, 0.232149797,  0.499271673,  0.399243556},
    {0.420735492,  0.372852606,  -0.221260222,  -0.3787513,   0.495832405,  0.070560004,
     -0.458082968, -0.434236679, 0.33773159,    -0.40396204,  -0.479462137, 0.15309498,
     0.138109169,  -0.475801037, -0.275342771,  0.328493299,  -0.305928945, -0.462907341,
     0.0582746024, 0.605637162,  -0.488765059,  -0.118315315, 0.233012207,  0.427299454,
     0.070560004,  -0.458082968, -0.315633319,  0.289219882,  -0.26491807,  -0.479462137,
     -0.130685061, 0.483959836,  -0.588885921,  -0.275342771, 0.467074259,  0.451085917,
     -0.462907341, 0.0582746024, 0.494084117,   0.206059243,  -0.352798438, 0.36448452,
     0.427299454,  -0.135880313, 0.107559994,   0.499271673,  0.159549181,  -0.413913235,
     -0.74059162,  -0.275342771, -0.0735078819, 0.36448452,   0.499271673,  0.399243556},
};

/* "free": FREE-Merging merge_vit/src/{task_vectors,utils,eval}.py, a quarter of each row kept. */
static const double free_merged[REFERENCE_TASKS][REFERENCE_NUMBERS] = {
    {0.521582459,   0.376758876,   -0.206636637,  -0.480128552, 0.579583828,  0.0986954336,
     -0.485012676,  -0.370265765,  0.349831495,   -0.27064152,  -0.565472714, 0.0421962844,
     0.0478052936,  -0.545500559,  -0.281528323,  0.303274858,  -0.361630613, -0.520626242,
     0.112873417,   0.555306214,   -0.483119701,  -0.186804523, 0.321102582,  0.501001193,
     0.161452809,   -0.471381593,  -0.301837366,  0.285036577,  -0.248433439, -0.476637237,
     -0.0162033887, 0.397548608,   -0.486224527,  -0.365487717, 0.359167382,  0.468512322,
     -0.463521988,  0.0147735795,  0.537809557,   0.218598741,  -0.296447795, 0.389439268,
     0.458304654,   -0.0375230287, 0.200216196,   0.539955355,  0.111048488,  -0.469037519,
     -0.467809808,  -0.326660298,  0.00369819873, 0.354921544,  0.533803407,  0.443764241},
    {0.488439991,   0.376758876,    -0.206636637,  -0.480128552, 0.485720576,  0.036017869,
     -0.485012676,  -0.370265765,   0.349831495,   -0.21797092,  -0.472187339, 0.0421962844,
     0.0797108834,  -0.489896952,   -0.281528323,  0.303274858,  -0.361630613, -0.520626242,
     0.112873417,   0.550108939,    -0.483119701,  -0.175054488, 0.321102582,  0.397814229,
     0.076621115,   -0.500079453,   -0.301837366,  0.285036577,  -0.307511144, -0.476637237,
     -0.0162033887, 0.479029948,    -0.428889291,  -0.287006455, 0.359167382,  0.468512322,
     -0.463521988,  -0.00330163271, 0.491719913,   0.218598741,  -0.296447795, 0.389439268,
     0.458304654,   -0.0964312434,  0.160199094,   0.539955355,  0.111048488,  -0.480643402,
     -0.467809808,  -0.326660298,   0.00369819873, 0.298317159,  0.533803407,  0.443764241},
    {0.441788764,   0.376758876,  -0.206636637,  -0.440434363, 0.485720576,  0.0986954336,
     -0.485012676,  -0.36919273,  0.349831495,   -0.27064152,  -0.472187339, 0.0737457877,
     0.0478052936,  -0.489896952, -0.281528323,  0.283507857,  -0.361630613, -0.520626242,
     0.100908506,   0.558533142,  -0.483119701,  -0.186804523, 0.305113692,  0.397814229,
     0.0269877261,  -0.471381593, -0.301837366,  0.285036577,  -0.248433439, -0.476637237,
     -0.0544048131, 0.479029948,  -0.486224527,  -0.287006455, 0.39107428,   0.468512322,
     -0.414861752,  0.0147735795, 0.491719913,   0.218598741,  -0.286715796, 0.389439268,
     0.458304654,   -0.101608741, 0.160199094,   0.539955355,  0.120871253,  -0.469037519,
     -0.552158163,  -0.326660298, 0.00369819873, 0.354921544,  0.533803407,  0.443764241},
};

/* ---- formulas, in double ---- */

typedef double served[REFERENCE_TASKS][REFERENCE_NUMBERS];

static size_t tensor_of(size_t number)
{
    return number / 24;
}

static double sum_of(size_t number)
{
    double sum = 0;
    for (size_t t = 0; t < REFERENCE_TASKS; t++)
        sum += sample_reference_tau(t, number);
    return sum;
}

static double elected(size_t number)
{
    double sign = sum_of(number) > 0 ? 1 : -1;
    double most = 0;
    for (size_t t = 0; t < REFERENCE_TASKS; t++)
        most = fmax(most, sign * sample_reference_tau(t, number));
    return sign * most;
}

static void emr_formula(served out)
{
    for (size_t t = 0; t < REFERENCE_TASKS; t++) {
        double own = 0;
        double kept = 0;
        for (size_t n = 0; n < REFERENCE_NUMBERS; n++) {
            own += fabs(sample_reference_tau(t, n));
            kept += sample_reference_tau(t, n) * elected(n) > 0 ? fabs(elected(n)) : 0;
        }
        for (size_t n = 0; n < REFERENCE_NUMBERS; n++) {
            bool agrees = sample_reference_tau(t, n) * elected(n) > 0;
            out[t][n] = sample_reference_base(n) + (agrees ? own / kept * elected(n) : 0);
        }
    }
}

static int descending(const void *a, const void *b)
{
    double one = *(const double *)a;
    double other = *(const double *)b;
    return (one < other) - (one > other);
}

/* TIES with the mean of those that agree, times `scale`. */
static void ties_mean(double scale, double out[REFERENCE_NUMBERS])
{
    double threshold[REFERENCE_TASKS];
    for (size_t t = 0; t < REFERENCE_TASKS; t++) {
        double sorted[REFERENCE_NUMBERS];
        for (size_t n = 0; n < REFERENCE_NUMBERS; n++)
            sorted[n] = fabs(sample_reference_tau(t, n));
        qsort(sorted, REFERENCE_NUMBERS, sizeof *sorted, descending);
        threshold[t] = sorted[REFERENCE_NUMBERS / 5]; /* one more than a fifth is kept */
    }
    for (size_t n = 0; n < REFERENCE_NUMBERS; n++) {
        double kept[REFERENCE_TASKS];
        double sum = 0;
        double agreeing = 0;
        double count = 0;
        for (size_t t = 0; t < REFERENCE_TASKS; t++) {
            double tau = sample_reference_tau(t, n);
            kept[t] = fabs(tau) >= threshold[t] ? tau : 0;
            sum += kept[t];
        }
        for (size_t t = 0; t < REFERENCE_TASKS; t++)
            if (kept[t] * sum > 0) {
                agreeing += kept[t];
                count++;
            }
        out[n] = count > 0 ? scale * agreeing / count : 0;
    }
}

static bool takes(double lambda, size_t task, size_t number, double all)
{
    double tau = sample_reference_tau(task, number);
    return fabs(tau) > lambda * fabs(all - tau);
}

static void mmer_formula(served out)
{
    double all[REFERENCE_NUMBERS];
    ties_mean(2, all);
    for (size_t t = 0; t < REFERENCE_TASKS; t++)
        for (size_t n = 0; n < REFERENCE_NUMBERS; n++)
            out[t][n] = sample_reference_base(n) + (takes(0.6, t, n, all[n]) ? all[n] : 0);
}

static void consensus_formula(double scale, size_t least, served out)
{
    for (size_t n = 0; n < REFERENCE_NUMBERS; n++) {
        size_t count = 0;
        for (size_t t = 0; t < REFERENCE_TASKS; t++)
            count += takes(0.4, t, n, sum_of(n));
        for (size_t t = 0; t < REFERENCE_TASKS; t++)
            out[t][n] = sample_reference_base(n) + (count >= least ? scale * sum_of(n) : 0);
    }
}

/* The two matrices have signs, the vector is kept. */
static void bitdelta_formula(served out)
{
    for (size_t t = 0; t < REFERENCE_TASKS; t++) {
        double sum[3] = {0, 0, 0};
        for (size_t n = 0; n < REFERENCE_NUMBERS; n++)
            sum[tensor_of(n)] += fabs(sample_reference_tau(t, n));
        for (size_t n = 0; n < REFERENCE_NUMBERS; n++) {
            double tau = sample_reference_tau(t, n);
            double sign = copysign(sum[tensor_of(n)] / 24, tau);
            out[t][n] = sample_reference_base(n) + (tensor_of(n) < 2 ? sign : tau);
        }
    }
}

/* Merges, and compares what is served. */
static void check_served(sample_family *sample, const char *method, const char *options,
                         const double wanted[][REFERENCE_NUMBERS])
{
    float found[REFERENCE_NUMBERS];
    didi_error error = {0};
    sample->options.method = method;
    sample->options.method_options = options;
    sample_must(file_remove_tree(sample->output, "package", &error), &error);
    sample_must(sample_merge(&sample->options, 2, 0, &error), &error);
    for (size_t t = 0; t < REFERENCE_TASKS; t++) {
        sample_reference_served(sample, "package", t, found);
        for (size_t n = 0; n < REFERENCE_NUMBERS; n++)
            if (!(fabs((double)found[n] - wanted[t][n]) <= 1e-6))
                fail_msg("%s, task %zu: number %zu is %.9g, not %.9g", method, t, n,
                         (double)found[n], wanted[t][n]);
    }
}

static void the_reference_is_met(void **state)
{
    sample_family sample;
    sample_reference_create(&sample, support_directory(state));
    check_served(&sample, "emr", "{\"rescaler\": \"tensors\"}", emr_of_tensors);
    check_served(&sample, "tall_ties", NULL, tall_of_ties);
    check_served(&sample, "tall_ties", "{\"lambda\": 1}", tall_of_ties_1);
    check_served(&sample, "tall_ties", "{\"vector\": \"sum\"}", tall_of_sums);
    check_served(&sample, "free", "{\"density\": 0.25}", free_merged);
    sample_family_close(&sample);
}

static void formulas_are_met(void **state)
{
    served wanted;
    sample_family sample;
    sample_reference_create(&sample, support_directory(state));
    emr_formula(wanted);
    check_served(&sample, "emr", NULL, wanted);
    mmer_formula(wanted);
    check_served(&sample, "mmer", NULL, wanted);
    consensus_formula(0.3, 2, wanted);
    check_served(&sample, "consensus", NULL, wanted);
    consensus_formula(1, 3, wanted);
    check_served(&sample, "consensus", "{\"scale\": 1, \"least\": 3}", wanted);
    bitdelta_formula(wanted);
    check_served(&sample, "bitdelta", NULL, wanted);
    sample_family_close(&sample);
}

/* Without places, what is added to matrices is `scale` or its square times the same. */
static void what_is_shared_may_be_scaled_once(void **state)
{
    static const char *const both[] = {"{\"density\": 0.1}",
                                       "{\"density\": 0.1, \"shared\": \"once\"}"};
    float found[2][REFERENCE_NUMBERS];
    sample_family sample;
    sample_reference_create(&sample, support_directory(state));
    sample.options.method = "free";
    for (size_t i = 0; i < 2; i++) {
        didi_error error = {0};
        sample.options.method_options = both[i];
        sample_must(file_remove_tree(sample.output, "package", &error), &error);
        sample_must(sample_merge(&sample.options, 1, 0, &error), &error);
        sample_reference_served(&sample, "package", 1, found[i]);
    }
    for (size_t n = 0; n < REFERENCE_NUMBERS; n++) {
        double twice = (double)found[0][n] - sample_reference_base(n);
        double once = (double)found[1][n] - sample_reference_base(n);
        sample_assert_near(once, tensor_of(n) < 2 ? 2 * twice : twice, 1e-6);
        if (tensor_of(n) == 2)
            sample_assert_near(once, 0.5 * sample_reference_tau(0, n), 1e-6);
    }
    sample_family_close(&sample);
}

/* One number of a matrix of 6 x 4 behind an ideal filter, by the sums of the transform itself. */
static double high_pass_formula(size_t number, double cut)
{
    enum { ROWS = 6, COLUMNS = 4 };
    size_t first = tensor_of(number) * ROWS * COLUMNS;
    size_t row = (number - first) / COLUMNS;
    size_t column = (number - first) % COLUMNS;
    double value = 0;
    for (size_t i = 0; i < ROWS; i++)
        for (size_t j = 0; j < COLUMNS; j++) {
            double from_row = (double)(i < ROWS - i ? i : ROWS - i) / (ROWS / 2.0);
            double from_column = (double)(j < COLUMNS - j ? j : COLUMNS - j) / (COLUMNS / 2.0);
            if (sqrt(from_row * from_row + from_column * from_column) < cut)
                continue;
            for (size_t n = 0; n < (size_t)ROWS * COLUMNS; n++) {
                double turns = (double)i * ((double)row - (double)(n / COLUMNS)) / ROWS +
                               (double)j * ((double)column - (double)(n % COLUMNS)) / COLUMNS;
                value += sum_of(first + n) * cos(2 * M_PI * turns) / (ROWS * COLUMNS);
            }
        }
    return value;
}

/* The paper's filter, without places. */
static void a_high_pass_is_ideal(void **state)
{
    static const double cuts[] = {0.01, 0.5, 1};
    sample_family sample;
    sample_reference_create(&sample, support_directory(state));
    for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++) {
        served wanted;
        char text[96];
        for (size_t n = 0; n < REFERENCE_NUMBERS; n++) {
            double shared =
                tensor_of(n) < 2 ? high_pass_formula(n, cuts[i]) : sample_reference_tau(0, n);
            for (size_t t = 0; t < REFERENCE_TASKS; t++)
                wanted[t][n] = sample_reference_base(n) + 0.5 * shared;
        }
        (void)snprintf(text, sizeof text,
                       "{\"density\": 0.1, \"shared\": \"once\", \"high_pass\": %g}", cuts[i]);
        check_served(&sample, "free", text, wanted);
    }
    sample_family_close(&sample);
}

/* ---- every dtype, on the usual family ---- */

static void fill(void *context, size_t tensor, float *values, size_t count)
{
    const uint64_t *seed = context;
    random_normal(random_mix(*seed, tensor), values, count, 0.1F);
}

/* Tensors for free, which goes by names. */
static const uint64_t block_shapes[][3] = {{24, 40}, {40}, {9, 20, 10}, {33}, {9, 13}};
static const safetensors_layout_entry blocks[] = {
    {"b.0.attn.weight", DIDI_DTYPE_F32, 2, block_shapes[0]},
    {"b.0.attn.bias", DIDI_DTYPE_F32, 1, block_shapes[1]},
    {"b.0.mlp.weight", DIDI_DTYPE_F32, 3, block_shapes[2]},
    {"b.0.norm.weight", DIDI_DTYPE_F32, 1, block_shapes[3]},
    {"embed.weight", DIDI_DTYPE_F32, 2, block_shapes[4]},
};
enum { BLOCKS = sizeof blocks / sizeof *blocks };

static void create(sample_family *sample, void **state, const char *method)
{
    sample_family_create(sample, support_directory(state), TASKS);
    sample->options.budget = 0;
    sample->options.method = method;
    if (method != methods[FREE])
        return;
    sample->options.method_options = "{\"density\": 0.1}";
    sample_tensors_write(sample->base, blocks, BLOCKS, fill, &(uint64_t){1});
    for (uint64_t t = 0; t < TASKS; t++)
        sample_tensors_write(sample->models[t], blocks, BLOCKS, fill, &(uint64_t){10 + t});
}

static didi_plan planned(const sample_family *sample)
{
    didi_merge *merge = NULL;
    didi_error error = {0};
    didi_merge_options options = sample->options;
    options.output_fd = options.work_fd = -1;
    sample_must(didi_merge_open(&options, NULL, &merge, &error), &error);
    didi_plan plan = *didi_merge_plan(merge);
    plan.layers = NULL;
    didi_merge_close(merge);
    return plan;
}

/* What exports miss is what was measured, and the plan promised no less; returns the error. */
static double check_dtype(sample_family *sample)
{
    didi_error error = {0};
    didi_plan plan = planned(sample);
    sample_must(file_remove_tree(sample->output, "package", &error), &error);
    sample_must(sample_merge(&sample->options, 2, 0, &error), &error);
    json_t *manifest = sample_manifest(sample, "package");
    const json_t *tasks = json_object_get(json_object_get(manifest, "error"), "per_task");
    for (size_t t = 0; t < sample->options.task_count; t++) {
        int exported = sample_export(sample, "package", t);
        double measured = json_number_value(json_object_get(tasks, sample->options.tasks[t].name));
        double missed = sample_exported_error(sample, exported, t);
        sample_assert_near(measured, missed, 1e-5 * missed + 1e-8);
        close(exported);
    }
    assert_true(sample_number(manifest, "budget", "bytes") <= (double)plan.artifact_bytes);
    assert_true(plan.disk_bytes >= plan.artifact_bytes);
    assert_true(sample_number(manifest, "budget", "dense_parameters") <=
                (double)plan.dense_parameters);
    assert_true(sample_number(manifest, "budget", "factor_parameters") == 0);
    double all = sample_number(manifest, "error", "relative");
    json_decref(manifest);
    return all;
}

static void every_dtype_gives_what_it_measures(void **state)
{
    static const sample_noise noise = {
        .bf16 = 1e-3, .f16 = 1e-4, .int8 = 1e-3, .int4 = 0.1, .int3 = 0.3};
    for (size_t m = 0; m < METHODS; m++) {
        sample_family sample;
        create(&sample, state, methods[m]);
        double best = sample_methods_check_dtypes(&sample, check_dtype, &noise);
        assert_true(best > 0.01 && best < 2);
        sample_family_close(&sample);
    }
}

static void models_of_other_dtypes_are_merged(void **state)
{
    for (size_t m = 0; m < FREE; m++) {
        sample_family sample;
        create(&sample, state, methods[m]);
        sample_model_write(sample.models[1],
                           &(sample_model){.seed = 101, .dtype = DIDI_DTYPE_BF16});
        sample_model_write(sample.models[2], &(sample_model){.seed = 102, .dtype = DIDI_DTYPE_F64});
        (void)check_dtype(&sample);
        sample_family_close(&sample);
    }
}

/* ---- what is stored, and how it is counted ---- */

/* A mask is a word for 32 numbers, of what some task changed. */
static void masks_are_counted_as_bits(void **state)
{
    static const uint64_t elements[] = {24 * 16, 12 * 40, 24, 72, 24, 1, 8};
    uint64_t words = 0;
    sample_family sample;
    didi_error error = {0};
    create(&sample, state, "emr");
    for (size_t i = 0; i < sizeof elements / sizeof *elements; i++)
        words += (elements[i] + 31) / 32 + 1; /* and the scale */
    sample_must(sample_merge(&sample.options, 1, 0, &error), &error);
    json_t *manifest = sample_manifest(&sample, "package");
    assert_int_equal(sample_number(manifest, "budget", "dense_parameters"),
                     SAMPLE_PARAMETERS + TASKS * words);
    json_decref(manifest);
    assert_int_equal(sample_package_tensors(&sample, "package", "shared.safetensors", NULL), 7);
    assert_int_equal(
        sample_package_tensors(&sample, "package", "shared.safetensors", "conv.masked"), 1);
    assert_int_equal(sample_package_tensors(&sample, "package", "experts/t1.safetensors", NULL),
                     14);
    assert_int_equal(sample_package_tensors(&sample, "package", "experts/t1.safetensors",
                                            "a.weight.expert_mask"),
                     1);
    sample_family_close(&sample);
}

static void signs_are_of_matrices(void **state)
{
    sample_family sample;
    didi_error error = {0};
    create(&sample, state, "bitdelta");
    sample_must(sample_merge(&sample.options, 1, 0, &error), &error);
    assert_int_equal(sample_package_tensors(&sample, "package", "shared.safetensors", NULL), 0);
    const char *const expert = "experts/t0.safetensors";
    assert_int_equal(sample_package_tensors(&sample, "package", expert, "a.weight.expert_sign"), 1);
    assert_int_equal(sample_package_tensors(&sample, "package", expert, "a.weight.expert_scale"),
                     1);
    assert_int_equal(sample_package_tensors(&sample, "package", expert, "bias.delta"), 1);
    sample_family_close(&sample);
}

/* Where some matrices are of numbered layers, the others are kept. */
static void signs_are_of_layers(void **state)
{
    static const uint64_t shape[2] = {4, 3};
    static const safetensors_layout_entry entries[] = {{"a.0.weight", DIDI_DTYPE_F32, 2, shape},
                                                       {"1.weight", DIDI_DTYPE_F32, 2, shape},
                                                       {"b.x0.weight", DIDI_DTYPE_F32, 2, shape},
                                                       {"c.2", DIDI_DTYPE_F32, 2, shape}};
    static const bool numbered[] = {true, true, false, false};
    sample_family sample;
    create(&sample, state, "bitdelta");
    sample_tensors_write(sample.base, entries, 4, fill, &(uint64_t){1});
    for (uint64_t t = 0; t < TASKS; t++)
        sample_tensors_write(sample.models[t], entries, 4, fill, &(uint64_t){10 + t});
    for (size_t all = 0; all < 2; all++) {
        sample.options.method_options = all ? "{\"matrices\": \"all\"}" : NULL;
        (void)check_dtype(&sample);
        for (size_t i = 0; i < 4; i++) {
            char name[32];
            (void)snprintf(name, sizeof name, "%s.expert_sign", entries[i].name);
            assert_int_equal(
                sample_package_tensors(&sample, "package", "experts/t2.safetensors", name),
                numbered[i] || all);
        }
    }
    sample_family_close(&sample);
}

/* Of a tensor that one task left alone it has no mask; of one that all left alone there is none. */
static void what_a_task_left_alone_is_not_stored(void **state)
{
    for (size_t m = 0; m < FREE; m++) {
        sample_family sample;
        didi_error error = {0};
        create(&sample, state, methods[m]);
        sample_model_write(sample.models[1], &(sample_model){.seed = 101, .same = "a.weight"});
        for (size_t t = 0; t < TASKS; t += 2)
            sample_model_write(sample.models[t],
                               &(sample_model){.seed = 100 + t, .same = t ? "conv" : NULL});
        (void)check_dtype(&sample);
        for (size_t i = 0; i < 2; i++) {
            const char *part = i == 0 ? "a.weight.expert_mask" : "a.weight.expert_sign";
            assert_int_equal(
                sample_package_tensors(&sample, "package", "experts/t1.safetensors", part), 0);
        }
        for (size_t t = 0; t < TASKS; t++)
            sample_model_write(sample.models[t], &(sample_model){.seed = 100 + t, .same = "conv"});
        sample_must(file_remove_tree(sample.output, "package", &error), &error);
        sample_must(sample_merge(&sample.options, 1, 0, &error), &error);
        assert_int_equal(
            sample_package_tensors(&sample, "package", "shared.safetensors", "conv.masked"), 0);
        assert_int_equal(sample_package_tensors(&sample, "package", "experts/t1.safetensors",
                                                "conv.expert_mask"),
                         0);
        sample_family_close(&sample);
    }
}

/* Places are a column of 16 bits and a number. */
static void places_are_counted(void **state)
{
    static const uint64_t entries[] = {24 * 4, 4, 9 * 20};
    uint64_t words = 24 * 40 + 40 + 9 * 20 * 10; /* what is shared of the block */
    sample_family sample;
    didi_error error = {0};
    create(&sample, state, methods[FREE]);
    for (size_t i = 0; i < sizeof entries / sizeof *entries; i++)
        words += TASKS * (entries[i] + (entries[i] + 1) / 2);
    sample_must(sample_merge(&sample.options, 1, 0, &error), &error);
    json_t *manifest = sample_manifest(&sample, "package");
    assert_int_equal(sample_number(manifest, "budget", "dense_parameters"), words);
    json_decref(manifest);
    assert_int_equal(sample_package_tensors(&sample, "package", "shared.safetensors", NULL), 3);
    assert_int_equal(sample_package_tensors(&sample, "package", "experts/t1.safetensors",
                                            "b.0.mlp.weight.expert_columns"),
                     1);
    assert_int_equal(sample_package_tensors(&sample, "package", "experts/t1.safetensors", NULL), 6);
    sample_family_close(&sample);
}

/* ---- panels that end within a byte ---- */

static const uint64_t shapes[][2] = {{1000, 211}, {70001, 0}, {3, 70003}, {5, 1}};
static const safetensors_layout_entry large[] = {
    {"tall", DIDI_DTYPE_F32, 2, shapes[0]},
    {"vector", DIDI_DTYPE_F32, 1, shapes[1]},
    {"wide", DIDI_DTYPE_F32, 2, shapes[2]},
    {"column", DIDI_DTYPE_F32, 2, shapes[3]},
};
enum { LARGE = sizeof large / sizeof *large };

static void panels_join(void **state)
{
    for (size_t m = 0; m < FREE; m += SUPPORT_SANITIZED ? 2 : 1) {
        sample_family sample;
        create(&sample, state, methods[m]);
        sample_tensors_write(sample.base, large, LARGE, fill, &(uint64_t){1});
        for (uint64_t t = 0; t < TASKS; t++)
            sample_tensors_write(sample.models[t], large, LARGE, fill, &(uint64_t){10 + t});
        for (size_t p = SUPPORT_SANITIZED; p < 2; p++) {
            sample.options.precision = p == 0 ? DIDI_PRECISION_F32 : DIDI_PRECISION_INT4;
            (void)check_dtype(&sample);
        }
        sample_family_close(&sample);
    }
}

/* ---- threads and attempts ---- */

/* "reference" of the method; an earlier one goes. */
static void prepare(sample_family *sample)
{
    didi_error error = {0};
    sample_must(file_remove_contents(sample->output, &error), &error);
    sample_must(file_remove_contents(sample->work, &error), &error);
    sample_trouble_prepare(sample);
}

static void any_number_of_workers_gives_the_same_bytes(void **state)
{
    for (size_t m = 0; m < METHODS; m++) {
        sample_family sample;
        didi_error error = {0};
        create(&sample, state, methods[m]);
        sample.options.precision = DIDI_PRECISION_INT4;
        sample.options.workers = 1;
        prepare(&sample);
        sample.options.workers = 4;
        sample_start_over(&sample);
        sample_must(sample_merge(&sample.options, 4, 0, &error), &error);
        assert_true(support_exists(sample.output, "package"));
        sample_assert_whole_or_absent(&sample);
        sample_family_close(&sample);
    }
}

/* Whatever an attempt has done, the next one goes on and the bytes and errors are the same. */
static void attempts_go_on(void **state)
{
    enum { ITEMS_MAX = 60 };
    for (size_t m = 0; m < METHODS; m++) {
        sample_family sample;
        didi_error error = {0};
        create(&sample, state, methods[m]);
        sample.options.precision = m % 2 == 0 ? DIDI_PRECISION_BF16 : DIDI_PRECISION_INT4;
        prepare(&sample);
        json_t *whole = sample_manifest(&sample, "reference");
        for (size_t items = 1; items < ITEMS_MAX; items += SUPPORT_SANITIZED ? 16 : 4) {
            sample_start_over(&sample);
            sample_merge_partly(&sample.options, items);
            sample_must(sample_merge(&sample.options, 2, 0, &error), &error);
            assert_true(support_exists(sample.output, "package"));
            sample_assert_whole_or_absent(&sample);
            json_t *resumed = sample_manifest(&sample, "package");
            assert_true(
                json_equal(json_object_get(whole, "error"), json_object_get(resumed, "error")));
            json_decref(resumed);
        }
        json_decref(whole);
        sample_family_close(&sample);
    }
}

static void a_cancelled_merge_goes_on(void **state)
{
    for (size_t m = 0; m < METHODS; m++) {
        sample_family sample;
        create(&sample, state, methods[m]);
        prepare(&sample);
        sample.options.volatile_work = false;
        int status = DIDI_CANCELLED;
        for (size_t items = 1; status == DIDI_CANCELLED; items++) {
            didi_error error = {0};
            status = sample_merge(&sample.options, 1 + items % 3, items, &error);
            assert_in_range(items, 1, 60);
            assert_int_equal(support_exists(sample.output, "package"), status == DIDI_OK);
            sample_assert_whole_or_absent(&sample);
        }
        assert_int_equal(status, DIDI_OK);
        sample_family_close(&sample);
    }
}

static void limits_of_memory_are_kept(void **state)
{
    for (size_t m = 0; m < METHODS; m++) {
        sample_family sample;
        didi_error error = {0};
        didi_merge *merge = NULL;
        create(&sample, state, methods[m]);
        uint64_t needed = planned(&sample).memory_minimum_bytes;
        prepare(&sample);
        sample.options.memory_limit = needed - 1;
        assert_int_equal(didi_merge_open(&sample.options, NULL, &merge, &error), DIDI_MEMORY_LIMIT);
        sample.options.memory_limit = needed;
        sample_start_over(&sample);
        sample_must(sample_merge(&sample.options, 3, 0, &error), &error);
        sample_assert_whole_or_absent(&sample);
        sample_family_close(&sample);
    }
}

/* ---- faults ---- */

/* Of a mask, of thresholds found in passes, of signs and of places. */
static void every_fault_is_clean(void **state)
{
    static const sample_faults dense = {.memory = 20, .writes = 10, .full_disks = 8, .renames = 10};
    static const size_t which[] = {0, 1, 4, FREE};
    for (size_t m = 0; m < sizeof which / sizeof *which; m++) {
        sample_family sample;
        create(&sample, state, methods[which[m]]);
        sample.options.precision = m % 2 == 0 ? DIDI_PRECISION_BF16 : DIDI_PRECISION_INT4;
        sample_methods_check_faults(&sample, &dense);
        sample_family_close(&sample);
    }
}

/* ---- what is refused ---- */

static void options_that_cannot_be_are_refused(void **state)
{
    static const sample_refusal rows[] = {
        {"emr", "{\"rescaler\": \"none\"}", "/method_options/rescaler"},
        {"emr", "{\"lambda\": 1}", "/method_options/lambda"},
        {"tall_ties", "{\"lambda\": -0.1}", "/method_options/lambda"},
        {"tall_ties", "{\"density\": 0}", "/method_options/density"},
        {"tall_ties", "{\"density\": 1.1}", "/method_options/density"},
        {"tall_ties", "{\"vector\": \"mean\"}", "/method_options/vector"},
        {"mmer", "{\"scale\": 0}", "/method_options/scale"},
        {"mmer", "{\"vector\": \"sum\"}", "/method_options/vector"},
        {"consensus", "{\"least\": 0}", "/method_options/least"},
        {"consensus", "{\"least\": 1.5}", "/method_options/least"},
        {"consensus", "{\"least\": 4}", "/method_options/least"},
        {"bitdelta", "{\"scale\": 1}", "/method_options/scale"},
        {"free", "{\"density\": 0}", "/method_options/density"},
        {"free", "{\"shared\": \"thrice\"}", "/method_options/shared"},
        {"free", "{\"high_pass\": 1.1}", "/method_options/high_pass"},
        {"free", NULL, "/method"},
        {"bitdelta", "{\"matrices\": \"none\"}", "/method_options/matrices"},
    };
    sample_family sample;
    create(&sample, state, "emr");
    sample_methods_refuse(&sample, rows, sizeof rows / sizeof *rows);
    sample_family_close(&sample);
}

static void a_task_like_the_base_is_refused(void **state)
{
    for (size_t m = 0; m < FREE; m++) {
        sample_family sample;
        didi_error error = {0};
        create(&sample, state, methods[m]);
        sample_model_write(sample.models[1], &(sample_model){0});
        assert_int_equal(sample_merge(&sample.options, 2, 0, &error), DIDI_MISMATCH);
        support_assert_contains(error.message, "identical to the base lab/base");
        assert_int_equal(support_entries(sample.output), 0);
        sample_family_close(&sample);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        support_test(the_reference_is_met),
        support_test(formulas_are_met),
        support_test(what_is_shared_may_be_scaled_once),
        support_test(a_high_pass_is_ideal),
        support_test(every_dtype_gives_what_it_measures),
        support_test(models_of_other_dtypes_are_merged),
        support_test(masks_are_counted_as_bits),
        support_test(signs_are_of_matrices),
        support_test(signs_are_of_layers),
        support_test(what_a_task_left_alone_is_not_stored),
        support_test(places_are_counted),
        support_test(panels_join),
        support_test(any_number_of_workers_gives_the_same_bytes),
        support_test(attempts_go_on),
        support_test(a_cancelled_merge_goes_on),
        support_test(limits_of_memory_are_kept),
        support_test(every_fault_is_clean),
        support_test(options_that_cannot_be_are_refused),
        support_test(a_task_like_the_base_is_refused),
    };
    return cmocka_run_group_tests(tests, sample_use_one_thread, NULL);
}
