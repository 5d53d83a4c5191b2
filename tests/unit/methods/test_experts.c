/* SPDX-License-Identifier: Apache-2.0 */
/* Methods whose experts are low-rank factors or deltas: held to other implementations, in every
 * dtype, through attempts that end early, and what they refuse. */
#include "tests/unit/sample_layer.h"
#include "tests/unit/sample_manifest.h"
#include "tests/unit/sample_methods.h"
#include "tests/unit/sample_reference.h"
#include "tests/unit/sample_summary.h"
#include "tests/unit/support.h"

#include "src/base/file.h"
#include "src/math/linalg.h"
#include "src/math/random.h"

#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { TASKS = 3 };

/* With options that leave some of the small family's components out. */
static const struct {
    const char *name, *options;
} methods[] = {
    {"tsv_c", NULL},      {"twin", "{\"rank_share\": 0.25}"}, {"smile", "{\"rank\": 3}"},
    {"wemoe", NULL},      {"cart", "{\"rank_share\": 0.2}"},  {"svd_lora", "{\"rank\": 5}"},
    {"individuals", NULL}};
enum { METHODS = sizeof methods / sizeof *methods };

/* ---- other implementations: served weights, as methods.json of the reference has them ---- */

/* "tsv_c": task_singular_vectors src/utils/TSVC_utils.py. */
static const double tsv_c[REFERENCE_TASKS][REFERENCE_NUMBERS] = {
    {0.568735113,   0.532911365,  -0.0886374462, -0.401718568, 0.540701245,  0.119084796,
     -0.417875906,  -0.288497382, 0.278256752,   -0.329238971, -0.532757667, -0.0275624547,
     -0.0443544632, -0.546253886, -0.33371916,   0.289094798,  -0.303096618, -0.459844233,
     0.060812657,   0.495797062,  -0.402127243,  -0.138603949, 0.442120851,  0.479696581,
     0.149894766,   -0.361082439, -0.264575749,  0.321340737,  -0.323587166, -0.551195299,
     -0.0293507916, 0.460206044,  -0.568247329,  -0.388374424, 0.268997526,  0.4136565,
     -0.482744141,  0.0340206683, 0.481317723,   0.19802777,   -0.157996999, 0.45533418,
     0.475119429,   -0.105796264, 0.213723607,   0.629075133,  0.227873028,  -0.370929984,
     -0.456157478,  -0.377977824, -0.050878205,  0.345358568,  0.56833514,   0.488284926},
    {0.499610933,  0.443808699,   -0.236404783, -0.548408984, 0.436406863,  0.0171009767,
     -0.446672905, -0.27255132,   0.396648389,  -0.211916707, -0.490774519, -0.0343062227,
     0.0539171841, -0.446000226,  -0.281703327, 0.304477178,  -0.386905166, -0.535753289,
     0.0738225264, 0.552789807,   -0.388457642, -0.14206486,  0.34522489,   0.354579141,
     0.0457466658, -0.482089414,  -0.30499719,  0.31656623,   -0.314995767, -0.527911382,
     0.0298725363, 0.539149593,   -0.410246708, -0.211920171, 0.300393722,  0.378839632,
     -0.514207359, 0.00864278442, 0.516073646,  0.262596099,  -0.259347676, 0.338317448,
     0.438892855,  -0.106072741,  0.217692675,  0.605823004,  0.112341288,  -0.535288545,
     -0.595199568, -0.323708892,  0.103677312,  0.232149797,  0.512365474,  0.42421516},
    {0.39846781,    0.292897107,  -0.156579846,  -0.407751796, 0.527192962,  0.183164849,
     -0.549175185,  -0.433194143, 0.305085292,   -0.382139564, -0.384635261, 0.130787611,
     0.0394014014,  -0.408975162, -0.329401876,  0.258726275,  -0.329627044, -0.547998963,
     0.127109868,   0.582920802,  -0.46186904,   -0.135726847, 0.286360334,  0.326474774,
     -0.0184577122, -0.476004404, -0.222369507,  0.284721583,  -0.165282865, -0.459403143,
     -0.0959807991, 0.488994664,  -0.601178508,  -0.300584311, 0.459851207,  0.444750264,
     -0.376069073,  0.0757572618, 0.403103711,   0.210447408,  -0.320017025, 0.346825165,
     0.519199391,   -0.14031283,  0.188539249,   0.51557477,   0.0747072602, -0.40982114,
     -0.62485419,   -0.234625213, -0.0735078819, 0.41727303,   0.389288766,  0.396907832},
};

/* "tsv_c_half": same; and "smile": fusion_bench 0.2.33 models/smile_moe/linear_from_module.py. */
static const double tsv_c_half[REFERENCE_TASKS][REFERENCE_NUMBERS] = {
    {0.574123149,   0.535641455,    -0.0927075098, -0.409479004, 0.626744379,  0.162682403,
     -0.482871945,  -0.412426052,   0.330940603,   -0.302544339, -0.57255447,  -0.103443461,
     -0.0510181998, -0.549630367,   -0.328685447,  0.298692636,  -0.368243091, -0.492853611,
     0.110023588,   0.58962809,     -0.42260688,   -0.148980874, 0.457590944,  0.509193579,
     0.194961355,   -0.352792086,   -0.305064749,  0.249354926,  -0.245999325, -0.536922406,
     -0.0990577337, 0.336273352,    -0.579029268,  -0.390357846, 0.278684301,  0.430878718,
     -0.521461184,  0.0268983642,   0.516102125,   0.259871318,  -0.221224548, 0.443702976,
     0.53192471,    -0.00480156896, 0.250553122,   0.635850211,  0.19478443,   -0.429758544,
     -0.456157478,  -0.377977824,   -0.050878205,  0.345358568,  0.56833514,   0.488284926},
    {0.535306222,  0.399865465,   -0.254610878, -0.548878276, 0.45147865,   -0.00145337981,
     -0.454360149, -0.272749471,  0.36976924,   -0.178826717, -0.477065025, -0.0339528385,
     0.14461301,   -0.55765272,   -0.327962004, 0.303284786,  -0.37190168,  -0.554223562,
     0.0661701192, 0.552592554,   -0.409649901, -0.115975803, 0.356033831,  0.354857759,
     0.0746371084, -0.549187994,  -0.348409487, 0.30076188,   -0.327964528, -0.497791197,
     0.0493600782, 0.546244079,   -0.407241376, -0.21890011,  0.295877752,  0.377195582,
     -0.484230292, -0.0609795011, 0.471028529,  0.246197317,  -0.294424501, 0.419784015,
     0.491601136,  -0.0868841655, 0.22186515,   0.596132355,  0.106071508,  -0.537571074,
     -0.595199568, -0.323708892,  0.103677312,  0.232149797,  0.512365474,  0.42421516},
    {0.450776832,    0.287698567,  -0.182644585,  -0.378580904, 0.525800299,  0.183303254,
     -0.548481244,   -0.433970782, 0.354398726,   -0.387040399, -0.409207346, 0.158287969,
     0.0653654363,   -0.411555502, -0.342339334,  0.273205499,  -0.341034592, -0.546865266,
     0.132794065,    0.576559216,  -0.385098541,  -0.143356402, 0.248106838,  0.369286966,
     -0.00434300608, -0.509861275, -0.215268116,  0.287524332,  -0.170288652, -0.447395788,
     -0.0984993106,  0.488000668,  -0.587579851,  -0.333203339, 0.466692963,  0.447450542,
     -0.36630356,    0.0523327779, 0.408016936,   0.21238654,   -0.350368231, 0.419628443,
     0.503929093,    -0.146339651, 0.187920228,   0.517059612,  0.0743958184, -0.409944059,
     -0.62485419,    -0.234625213, -0.0735078819, 0.41727303,   0.389288766,  0.396907832},
};

/* "twin": Twin-Merging discriminative/sparsify.py (svd), twin_merge.py. */
static const double twin[REFERENCE_TASKS][REFERENCE_NUMBERS] = {
    {0.603702347,    0.4979462,     -0.0823525728, -0.408899857, 0.615965428,  0.174276849,
     -0.473966932,   -0.41937475,   0.364050694,   -0.332480044, -0.601288619, -0.0747990514,
     -0.00927947803, -0.589364883,  -0.330239701,  0.313799042,  -0.336108496, -0.537688476,
     0.126707914,    0.587585271,   -0.424263089,  -0.141065886, 0.42969238,   0.527860103,
     0.217962117,    -0.383764334,  -0.283642297,  0.247063776,  -0.232011074, -0.537450759,
     -0.129465189,   0.365028038,   -0.569948148,  -0.403192994, 0.283818211,  0.421396402,
     -0.495775266,   0.00269846876, 0.52292671,    0.278164987,  -0.242628091, 0.462916198,
     0.537194673,    -0.0323069515, 0.254015227,   0.63938337,   0.176970477,  -0.417504387,
     -0.456157478,   -0.377977824,  -0.050878205,  0.345358568,  0.56833514,   0.488284926},
    {0.577725353,  0.40670742,    -0.227926944, -0.502753801,  0.458946054,  0.0050386215,
     -0.461939067, -0.258236045,  0.376329749,  -0.178807656,  -0.446885958, -0.0179020482,
     0.0934820323, -0.560407144,  -0.34981061,  0.265619487,   -0.33914302,  -0.549102018,
     0.126494697,  0.596062389,   -0.38908892,  -0.0964973733, 0.351693927,  0.389727203,
     0.0834603044, -0.550787824,  -0.353891244, 0.306480886,   -0.351377618, -0.505250844,
     0.0557828871, 0.515476266,   -0.405109638, -0.225644127,  0.307505105,  0.362907897,
     -0.480611336, -0.0518175496, 0.470685932,  0.259616977,   -0.268696822, 0.417904807,
     0.495152319,  -0.0683504334, 0.25006214,   0.609568362,   0.10314691,   -0.487579871,
     -0.595199568, -0.323708892,  0.103677312,  0.232149797,   0.512365474,  0.42421516},
    {0.477389505,    0.302168661,  -0.170125147,  -0.366866549, 0.544820262,  0.170551192,
     -0.55364387,    -0.43792891,  0.338194393,   -0.412970581, -0.417892037, 0.134754727,
     0.106630969,    -0.435334937, -0.294491494,  0.224117236,  -0.322830266, -0.532825767,
     0.146123611,    0.585731756,  -0.420601964,  -0.130521134, 0.239368321,  0.378841484,
     -0.00962242302, -0.51477029,  -0.215399064,  0.278097435,  -0.182472552, -0.487433417,
     -0.118825504,   0.486911684,  -0.60735106,   -0.364312276, 0.430024767,  0.454848917,
     -0.359603522,   0.0535308783, 0.41251501,    0.207635899,  -0.32210274,  0.427456892,
     0.542169776,    -0.136615047, 0.211292135,   0.539506665,  0.113472252,  -0.379385781,
     -0.62485419,    -0.234625213, -0.0735078819, 0.41727303,   0.389288766,  0.396907832},
};

/* "wemoe_one_hot": formula from FusionBench models/we_moe.py with gate = one-hot. */
static const double wemoe_one_hot[REFERENCE_TASKS][REFERENCE_NUMBERS] = {
    {0.522760418,  0.407471925,   -0.170938878, -0.438208421, 0.532354103,  0.105319473,
     -0.485730682, -0.370426515,  0.370515312,  -0.30035158,  -0.496456502, 0.0301575673,
     0.0704297722, -0.523153589,  -0.309531904, 0.277562501,  -0.327444354, -0.533672634,
     0.125131816,  0.57968912,    -0.406271979, -0.149645499, 0.344156888,  0.42974568,
     0.218504862,  -0.379517716,  -0.294455618, 0.255049208,  -0.233744889, -0.54861023,
     -0.10032076,  0.343309573,   -0.535943499, -0.422070349, 0.245609224,  0.472803613,
     -0.51911897,  0.00848193436, 0.565255362,  0.231570067,  -0.193631054, 0.424575554,
     0.507133678,  0.0242143664,  0.258375107,  0.631694142,  0.183892528,  -0.419214006,
     -0.456157478, -0.377977824,  -0.050878205, 0.345358568,  0.56833514,   0.488284926},
    {0.522760418,  0.407471925,   -0.170938878, -0.438208421, 0.532354103,  0.105319473,
     -0.485730682, -0.370426515,  0.370515312,  -0.30035158,  -0.496456502, 0.0301575673,
     0.0704297722, -0.523153589,  -0.309531904, 0.277562501,  -0.327444354, -0.533672634,
     0.125131816,  0.57968912,    -0.406271979, -0.149645499, 0.344156888,  0.42974568,
     0.0882088649, -0.541703686,  -0.359372908, 0.323910879,  -0.349726676, -0.504676903,
     0.0558249289, 0.517938514,   -0.382393367, -0.22127705,  0.310744274,  0.391873151,
     -0.476803159, -0.0643320616, 0.48121308,   0.246032201,  -0.268116738, 0.425400111,
     0.489669787,  -0.0573318466, 0.21015759,   0.595920056,  0.101961667,  -0.54678208,
     -0.595199568, -0.323708892,  0.103677312,  0.232149797,  0.512365474,  0.42421516},
    {0.522760418,   0.407471925,  -0.170938878,  -0.438208421, 0.532354103,  0.105319473,
     -0.485730682,  -0.370426515, 0.370515312,   -0.30035158,  -0.496456502, 0.0301575673,
     0.0704297722,  -0.523153589, -0.309531904,  0.277562501,  -0.327444354, -0.533672634,
     0.125131816,   0.57968912,   -0.406271979,  -0.149645499, 0.344156888,  0.42974568,
     -0.0259275873, -0.525350528, -0.239648694,  0.270890083,  -0.20068175,  -0.466100209,
     -0.130685061,  0.496663607,  -0.588885921,  -0.331451574, 0.467074259,  0.474222952,
     -0.356513933,  0.0584514876, 0.418448883,   0.21056737,   -0.352798438, 0.418250535,
     0.501436796,   -0.14443125,  0.186435632,   0.517704593,  0.0738997658, -0.393419441,
     -0.62485419,   -0.234625213, -0.0735078819, 0.41727303,   0.389288766,  0.396907832},
};

/* "cart_indexing": formula of CART src/merging.py. */
static const double cart_indexing[REFERENCE_TASKS][REFERENCE_NUMBERS] = {
    {0.609944521,    0.491854374,   -0.0830603376, -0.408255018, 0.61400041,   0.176437936,
     -0.473115684,   -0.418487952,  0.368402933,   -0.33310096,  -0.607368151, -0.0691792517,
     -0.00261430953, -0.596423891,  -0.328809767,  0.314795286,  -0.331660071, -0.54392124,
     0.12855261,     0.586650319,   -0.421974377,  -0.142076194, 0.427156469,  0.531251411,
     0.226100974,    -0.390988846,  -0.287080062,  0.256529158,  -0.225785175, -0.541437555,
     -0.137348909,   0.39231023,    -0.558229652,  -0.409494667, 0.273126015,  0.416347926,
     -0.504892072,   0.00399197835, 0.539438872,   0.276356843,  -0.237404131, 0.464053931,
     0.526718974,    -0.0501372868, 0.249735257,   0.643701232,  0.177929281,  -0.423469011,
     -0.456157478,   -0.377977824,  -0.050878205,  0.345358568,  0.56833514,   0.488284926},
    {0.582122831,  0.406363135,   -0.231724242, -0.502155767,  0.468717632,  0.00394028423,
     -0.460102085, -0.254865025,  0.386350276,  -0.178479287,  -0.441759234, -0.0114355263,
     0.0848525696, -0.559194986,  -0.342899003, 0.265126687,   -0.333727849, -0.551151668,
     0.13215105,   0.596933609,   -0.380732472, -0.0939730658, 0.347112084,  0.396243349,
     0.0812376905, -0.551487852,  -0.352826699, 0.300676016,   -0.351055798, -0.50719094,
     0.0575782907, 0.51252219,    -0.400253472, -0.224889132,  0.310801906,  0.364973993,
     -0.481328163, -0.0535994911, 0.472153915,  0.256930834,   -0.267209865, 0.42167339,
     0.492712916,  -0.0619124938, 0.252890265,  0.606513953,   0.100303514,  -0.479454426,
     -0.595199568, -0.323708892,  0.103677312,  0.232149797,   0.512365474,  0.42421516},
    {0.48162261,     0.298221566,  -0.173043367,  -0.367480819, 0.546902516,  0.167134541,
     -0.553091177,   -0.441240317, 0.344848807,   -0.413267669, -0.417322536, 0.135881322,
     0.11949114,     -0.439645957, -0.297472735,  0.225546338,  -0.323405894, -0.532604949,
     0.142678174,    0.58847181,   -0.417239663,  -0.131207039, 0.240886438,  0.377784903,
     -0.00972465348, -0.520629923, -0.216457435,  0.274458144,  -0.183749144, -0.489646556,
     -0.121351238,   0.487043987,  -0.607328057,  -0.371223764, 0.422678767,  0.454038879,
     -0.355471325,   0.0497814343, 0.415245654,   0.206590937,  -0.324509752, 0.433885253,
     0.545794762,    -0.134736667, 0.21123907,    0.546220074,  0.120540413,  -0.377979213,
     -0.62485419,    -0.234625213, -0.0735078819, 0.41727303,   0.389288766,  0.396907832},
};

/* Merges, and compares what is served for every task. */
static void check_served(sample_family *sample, const char *method, const char *options,
                         const double wanted[REFERENCE_TASKS][REFERENCE_NUMBERS])
{
    float served[REFERENCE_NUMBERS];
    didi_error error = {0};
    sample->options.method = method;
    sample->options.method_options = options;
    sample_must(file_remove_tree(sample->output, "package", &error), &error);
    sample_must(sample_merge(&sample->options, 2, 0, &error), &error);
    for (size_t t = 0; t < REFERENCE_TASKS; t++) {
        sample_reference_served(sample, "package", t, served);
        for (size_t n = 0; n < REFERENCE_NUMBERS; n++)
            if (!(fabs((double)served[n] - wanted[t][n]) <= 6e-7)) /* the largest are above 0.6 */
                fail_msg("%s, task %zu: number %zu is %.9g, not %.9g", method, t, n,
                         (double)served[n], wanted[t][n]);
    }
}

static void the_reference_is_met(void **state)
{
    double tuned[REFERENCE_TASKS][REFERENCE_NUMBERS];
    sample_family sample;
    sample_reference_create(&sample, support_directory(state));
    for (size_t t = 0; t < REFERENCE_TASKS; t++)
        for (size_t n = 0; n < REFERENCE_NUMBERS; n++)
            tuned[t][n] = sample_reference_base(n) + sample_reference_tau(t, n);
    check_served(&sample, "tsv_c", NULL, tsv_c);
    check_served(&sample, "tsv_c", "{\"rank_share\": 0.5}", tsv_c_half);
    check_served(&sample, "svd_lora", "{\"rank\": 1}", tsv_c);
    check_served(&sample, "svd_lora", "{\"rank\": 2}", tsv_c_half);
    check_served(&sample, "twin", "{\"rank_share\": 0.5}", twin);
    check_served(&sample, "smile", "{\"rank\": 2}", tsv_c_half);
    check_served(&sample, "smile", "{\"rank_share\": 0.5}", tsv_c_half);
    check_served(&sample, "wemoe", NULL, wemoe_one_hot);
    check_served(&sample, "cart", "{\"rank_share\": 0.5}", cart_indexing);
    check_served(&sample, "individuals", NULL, tuned);
    check_served(&sample, "svd_lora", NULL, tuned); /* 128 components are all there are */
    check_served(&sample, "cart", "{\"rank_share\": 1}", tuned);
    sample_family_close(&sample);
}

/* SMILE's gate is in the package: the length of an input along the first row of an expert's right
 * factor, that row being of length 1. As the reference's "smile_gate", for the first matrix. */
static void the_gate_of_smile_is_in_the_package(void **state)
{
    static const double norms[REFERENCE_TASKS] = {1.695025102585916, 0.7339714347427366,
                                                  0.07652249507064418};
    static const char factor[] = "layer.attn.q.weight.expert_A";
    enum { COLUMNS = 4 };
    sample_family sample;
    didi_error error = {0};
    sample_reference_create(&sample, support_directory(state));
    sample.options.method = "smile";
    sample.options.method_options = "{\"rank\": 2}";
    sample_must(sample_merge(&sample.options, 1, 0, &error), &error);
    for (size_t t = 0; t < REFERENCE_TASKS; t++) {
        float row[COLUMNS];
        char path[64];
        double along = 0;
        safetensors_header *header = NULL;
        (void)snprintf(path, sizeof path, "package/experts/t%zu.safetensors", t);
        int fd = openat(sample.output, path, O_RDONLY | O_CLOEXEC);
        sample_must(safetensors_header_read(fd, path, &header, &error), &error);
        const safetensors_tensor *found = safetensors_header_find(header, factor);
        assert_non_null(found);
        assert_int_equal(found->elements, 2 * COLUMNS);
        sample_must(file_pread_all(fd, row, sizeof row, found->offset, path, &error), &error);
        for (size_t j = 0; j < COLUMNS; j++)
            along += (double)row[j] * sin(1 + 0.5 * (double)j);
        sample_assert_near(fabs(along) / sqrt(linalg_energy(row, COLUMNS)), norms[t], 1e-6);
        safetensors_header_free(header);
        close(fd);
    }
    sample_family_close(&sample);
}

/* ---- a family with the names that methods look for ---- */

static const uint64_t shapes[][4] = {{24, 16}, {24, 0}, {32, 20}, {32, 0},      {20, 12},
                                     {9, 20},  {20, 0}, {5, 20},  {8, 3, 4, 2}, {2, 2}};
static const safetensors_layout_entry entries[] = {
    {"layers.0.attn.q.weight", DIDI_DTYPE_F32, 2, shapes[0]},
    {"layers.0.attn.q.bias", DIDI_DTYPE_F32, 1, shapes[1]},
    {"layers.0.mlp.fc.weight", DIDI_DTYPE_F32, 2, shapes[2]},
    {"layers.0.mlp.fc.bias", DIDI_DTYPE_F32, 1, shapes[3]},
    {"layers.0.mlp.proj.weight", DIDI_DTYPE_F32, 2, shapes[4]},
    {"embeddings.word.weight", DIDI_DTYPE_F32, 2, shapes[5]},
    {"layers.0.norm.weight", DIDI_DTYPE_F32, 1, shapes[6]},
    {"classifier.weight", DIDI_DTYPE_F32, 2, shapes[7]},
    {"conv.weight", DIDI_DTYPE_F32, 4, shapes[8]},
    {"small.weight", DIDI_DTYPE_F32, 2, shapes[9]},
};
enum { TENSORS = sizeof entries / sizeof *entries };

/* `context`: the seed. Fine-tunes have a part in common, so that sharing is worth something. */
static void fill(void *context, size_t tensor, float *values, size_t count)
{
    float common[1024];
    const uint64_t *seed = context;
    assert_true(count <= 1024);
    random_normal(random_mix(1, tensor), values, count, 0.5F);
    if (*seed == 0)
        return;
    random_normal(random_mix(2, tensor), common, count, 0.05F);
    for (size_t i = 0; i < count; i++)
        values[i] += common[i];
    random_normal(random_mix(*seed, tensor), common, count, 0.05F);
    for (size_t i = 0; i < count; i++)
        values[i] += common[i];
}

static void create(sample_family *sample, void **state, size_t method)
{
    didi_error error = {0};
    sample_family_create(sample, support_directory(state), TASKS);
    sample_must(file_remove_contents(sample->work, &error), &error);
    sample_must(file_remove_contents(sample->output, &error), &error);
    sample->options.budget = 0;
    sample->options.method = methods[method].name;
    sample->options.method_options = methods[method].options;
    sample_tensors_write(sample->base, entries, TENSORS, fill, &(uint64_t){0});
    for (uint64_t t = 0; t < TASKS; t++)
        sample_tensors_write(sample->models[t], entries, TENSORS, fill, &(uint64_t){10 + t});
}

/* ---- what is stored ---- */

static size_t holds(const sample_family *sample, const char *file, const char *tensor)
{
    return sample_package_tensors(sample, "package", file, tensor);
}

/* Where each tensor's part is: s shared delta, f factors of task 0, d its delta. */
static void describe(const sample_family *sample, char ret_parts[TENSORS + 1])
{
    static const char expert[] = "experts/t0.safetensors";
    static const char shared[] = "shared.safetensors";
    for (size_t i = 0; i < TENSORS; i++) {
        char delta[64];
        char factors[64];
        (void)snprintf(delta, sizeof delta, "%s.delta", entries[i].name);
        (void)snprintf(factors, sizeof factors, "%s.expert_B", entries[i].name);
        ret_parts[i] = holds(sample, expert, factors) != 0
                           ? (holds(sample, shared, delta) != 0 ? 'b' : 'f')
                       : holds(sample, expert, delta) != 0 ? 'd'
                       : holds(sample, shared, delta) != 0 ? 's'
                                                           : '-';
    }
    ret_parts[TENSORS] = '\0';
}

/* In the order of the table: attention and its bias, MLP, its bias, MLP, embedding, norm,
 * classifier, convolution, a matrix of 2 x 2. b: both a shared delta and factors. */
static void each_tensor_has_its_part(void **state)
{
    static const char *const wanted[METHODS] = {
        "fdfdffdfd-", /* 2 x 2: a third of two components is none */
        "bdbdbbddbs", /* a quarter of two likewise: what is shared alone */
        "fdfdf--f-d", /* 2 x 2: three components are more than all */
        "ssdddsssss", "bdbdbddddd", "fdfdffddfd", "dddddddddd",
    };
    for (size_t m = 0; m < METHODS; m++) {
        char parts[TENSORS + 1];
        sample_family sample;
        didi_error error = {0};
        create(&sample, state, m);
        sample_must(sample_merge(&sample.options, 1, 0, &error), &error);
        describe(&sample, parts);
        if (strcmp(parts, wanted[m]) != 0)
            fail_msg("%s stores %s, not %s", methods[m].name, parts, wanted[m]);
        sample_family_close(&sample);
    }
}

/* ---- every dtype ---- */

static double task_error(const json_t *manifest, size_t task)
{
    static const char *const names[TASKS] = {"t0", "t1", "t2"};
    const json_t *all = json_object_get(json_object_get(manifest, "error"), "per_task");
    return json_number_value(json_object_get(all, names[task]));
}

/* Exports miss what was measured, and the files hold what was planned: `all` of it, or less.
 * Returns the error. */
static double check_merge(sample_family *sample, bool all)
{
    didi_error error = {0};
    didi_merge *merge = NULL;
    didi_merge_options options = sample->options;
    options.output_fd = options.work_fd = -1;
    sample_must(didi_merge_open(&options, NULL, &merge, &error), &error);
    const didi_plan plan = *didi_merge_plan(merge);
    didi_merge_close(merge);
    sample_must(file_remove_tree(sample->output, "package", &error), &error);
    sample_must(sample_merge(&sample->options, 2, 0, &error), &error);
    json_t *manifest = sample_manifest(sample, "package");
    for (size_t t = 0; t < TASKS; t++) {
        int exported = sample_export(sample, "package", t);
        double wanted = sample_exported_error(sample, exported, t);
        sample_assert_near(task_error(manifest, t), wanted, 1e-5 * wanted + 1e-8);
        close(exported);
    }
    double bytes = sample_number(manifest, "budget", "bytes");
    assert_true(bytes <= (double)plan.artifact_bytes);
    assert_true(plan.disk_bytes >= plan.artifact_bytes);
    uint64_t factors = (uint64_t)sample_number(manifest, "budget", "factor_parameters");
    uint64_t dense = (uint64_t)sample_number(manifest, "budget", "dense_parameters");
    assert_true(factors <= plan.factor_parameters && dense <= plan.dense_parameters);
    if (all) {
        assert_true((double)plan.artifact_bytes <= bytes + 16384);
        assert_int_equal(factors, plan.factor_parameters);
        assert_int_equal(dense, plan.dense_parameters);
    }
    double relative = sample_number(manifest, "error", "relative");
    json_decref(manifest);
    return relative;
}

static double measure_all(sample_family *sample)
{
    return check_merge(sample, true);
}

static void every_dtype_gives_what_it_measures(void **state)
{
    static const sample_noise noise = {
        .bf16 = 1e-4, .f16 = 1e-5, .int8 = 3e-4, .int4 = 0.03, .int3 = 0.09};
    for (size_t m = 0; m < METHODS; m++) {
        sample_family sample;
        create(&sample, state, m);
        double best = sample_methods_check_dtypes(&sample, measure_all, &noise);
        assert_true(m + 1 == METHODS ? best < 1e-9 : best > 0.01 && best < 1);
        sample_family_close(&sample);
    }
}

/* ---- tensors of several panels ---- */

static const uint64_t large_shapes[][2] = {{1000, 211}, {70001, 0}, {3, 80000}};
static const safetensors_layout_entry large[] = {
    {"mlp.tall.weight", DIDI_DTYPE_F32, 2, large_shapes[0]},
    {"mlp.tall.bias", DIDI_DTYPE_F32, 1, large_shapes[1]},
    {"attn.wide.weight", DIDI_DTYPE_F32, 2, large_shapes[2]},
};
enum { LARGE = sizeof large / sizeof *large };

static void fill_large(void *context, size_t tensor, float *values, size_t count)
{
    const uint64_t *seed = context;
    random_normal(random_mix(*seed, tensor), values, count, 0.1F);
}

static void panels_join(void **state)
{
    static const didi_precision precisions[] = {DIDI_PRECISION_F32, DIDI_PRECISION_INT3};
    for (size_t m = 0; m < METHODS; m += SUPPORT_SANITIZED ? 3 : 1) {
        sample_family sample;
        create(&sample, state, m);
        sample_tensors_write(sample.base, large, LARGE, fill_large, &(uint64_t){1});
        for (uint64_t t = 0; t < TASKS; t++)
            sample_tensors_write(sample.models[t], large, LARGE, fill_large, &(uint64_t){10 + t});
        for (size_t p = SUPPORT_SANITIZED; p < 2; p++) {
            sample.options.precision = precisions[p];
            assert_true(check_merge(&sample, true) < 1);
        }
        sample_family_close(&sample);
    }
}

/* ---- as adapters ---- */

static didi_adapter_report export_adapter(const sample_family *sample)
{
    didi_error error = {0};
    didi_adapter_report report;
    const didi_adapter_options options = {.as_packaged = true, .max_rank = 16};
    int package = openat(sample->output, "package", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(package >= 0);
    didi_export wanted = {.artifact_fd = package,
                          .base_fd = sample->base,
                          .output_fd = sample->work,
                          .base_label = "lab/base",
                          .task = "t0"};
    sample_must(didi_export_adapter(&wanted, &options, &report, &error), &error);
    close(package);
    return report;
}

/* Where experts are factors alone they are exported as they are; matrices with a delta are cut to
 * the rank that is asked for, and the report says what that costs. */
static void factors_are_exported_as_they_are(void **state)
{
    for (size_t m = 0; m < METHODS; m++) {
        static const char plain[] = "fdfdf"; /* its first tensors */
        char parts[TENSORS + 1];
        sample_family sample;
        didi_error error = {0};
        create(&sample, state, m);
        sample_must(sample_merge(&sample.options, 1, 0, &error), &error);
        describe(&sample, parts);
        didi_adapter_report report = export_adapter(&sample);
        assert_int_equal(report.rank, 16);
        if (strncmp(parts, plain, strlen(plain)) == 0)
            assert_true(report.error < 1e-12);
        else
            assert_true(report.error > 1e-6 && report.error < 0.5);
        assert_true(report.lost > 0); /* vectors */
        sample_family_close(&sample);
    }
}

static const char *kept_of(const json_t *manifest, const char *tensor)
{
    const json_t *row = json_object_get(json_object_get(manifest, "tensors"), tensor);
    return json_string_value(json_object_get(row, "kept"));
}

static void the_manifest_tells_how_tensors_are_kept(void **state)
{
    sample_family sample;
    didi_error error = {0};
    create(&sample, state, 1);
    sample.options.precision = DIDI_PRECISION_INT4;
    sample_must(sample_merge(&sample.options, 1, 0, &error), &error);
    json_t *manifest = sample_manifest(&sample, "package");
    const json_t *bits = json_object_get(manifest, "dense_bits");
    const json_t *norm = json_object_get(bits, "layers.0.norm.weight");
    const json_t *shared = json_object_get(bits, "layers.0.attn.q.weight");
    assert_string_equal(kept_of(manifest, "layers.0.attn.q.weight"), "factors");
    assert_string_equal(kept_of(manifest, "layers.0.norm.weight"), "dense");
    assert_int_equal(json_array_size(norm), TASKS);
    for (size_t t = 0; t < TASKS; t++)
        assert_int_equal(json_integer_value(json_array_get(norm, t)), 8); /* a vector */
    assert_int_equal(json_array_size(shared), 1);
    assert_int_equal(json_integer_value(json_array_get(shared, 0)), 4);
    json_decref(manifest);
    sample_family_close(&sample);
}

/* ---- tasks without a vector, and of low rank ---- */

/* The fine-tune of task 0, but most tensors are the base's. */
static void fill_few(void *context, size_t tensor, float *values, size_t count)
{
    (void)context;
    fill(&(uint64_t){tensor < 4 ? 10 : 0}, tensor, values, count);
}

/* A tensor that one task left as it was has no expert there, and the other tasks theirs. */
static void unchanged_tensors_have_no_expert(void **state)
{
    for (size_t m = 0; m < METHODS; m++) {
        sample_family sample;
        create(&sample, state, m);
        sample_tensors_write(sample.models[0], entries, TENSORS, fill_few, NULL);
        assert_true(check_merge(&sample, false) < 1);
        assert_int_equal(holds(&sample, "experts/t0.safetensors", "small.weight.delta"), 0);
        assert_int_equal(
            holds(&sample, "experts/t0.safetensors", "embeddings.word.weight.expert_B"), 0);
        sample_family_close(&sample);
    }
}

/* Task vectors that are all of rank 1. */
static void fill_rank_one(void *context, size_t tensor, float *values, size_t count)
{
    float left[32];
    float right[32];
    const uint64_t *seed = context;
    size_t rows = entries[tensor].dimensions == 2 ? entries[tensor].shape[0] : 1;
    size_t columns = count / rows;
    random_normal(random_mix(1, tensor), values, count, 0.5F);
    if (*seed == 0 || rows == 1)
        return;
    random_normal(random_mix(*seed, tensor), left, rows, 0.5F);
    random_normal(random_mix(*seed + 1, tensor), right, columns, 0.5F);
    for (size_t i = 0; i < count; i++)
        values[i] += left[i / columns] * right[i % columns];
}

static void no_more_components_are_stored_than_there_are(void **state)
{
    enum { FIRST = 5 }; /* tensors: of them three matrices */
    sample_family sample;
    didi_error error = {0};
    create(&sample, state, 5);
    sample_tensors_write(sample.base, entries, FIRST, fill_rank_one, &(uint64_t){0});
    for (uint64_t t = 0; t < TASKS; t++)
        sample_tensors_write(sample.models[t], entries, FIRST, fill_rank_one,
                             &(uint64_t){10 + 2 * t});
    sample_must(sample_merge(&sample.options, 1, 0, &error), &error);
    json_t *manifest = sample_manifest(&sample, "package");
    assert_true(sample_number(manifest, "error", "relative") < 1e-10);
    assert_in_range(sample_number(manifest, "budget", "factor_parameters"),
                    TASKS * (24 + 16 + 32 + 20 + 20 + 12), TASKS * (24 + 16 + 32 + 20 + 20 + 12));
    json_decref(manifest);
    sample_family_close(&sample);
}

/* ---- weights ---- */

/* Twice the weight is twice the task in what is shared. */
static void weights_of_tasks_count(void **state)
{
    static const double weight[REFERENCE_TASKS] = {1, 2, 0.5};
    double wanted[REFERENCE_TASKS][REFERENCE_NUMBERS];
    sample_family sample;
    sample_reference_create(&sample, support_directory(state));
    for (size_t t = 0; t < REFERENCE_TASKS; t++)
        sample.inputs[t].weight = weight[t];
    for (size_t t = 0; t < REFERENCE_TASKS; t++)
        for (size_t n = 0; n < REFERENCE_NUMBERS; n++) {
            double sum = 0;
            for (size_t s = 0; s < REFERENCE_TASKS; s++)
                sum += weight[s] * sample_reference_tau(s, n);
            bool mlp = n >= 24;
            wanted[t][n] =
                sample_reference_base(n) + (mlp ? sample_reference_tau(t, n) : 0.2 * sum);
        }
    check_served(&sample, "wemoe", "{\"scale\": 0.2}", wanted);
    sample_family_close(&sample);
}

/* ---- attempts, threads and trouble ---- */

static const didi_precision both[] = {DIDI_PRECISION_BF16, DIDI_PRECISION_INT4};

static void any_number_of_threads_gives_the_same_bytes(void **state)
{
    for (size_t m = 0; m < METHODS; m++) {
        sample_family sample;
        didi_error error = {0};
        create(&sample, state, m);
        sample.options.precision = both[m % 2];
        sample_trouble_prepare(&sample);
        sample.options.workers = 4;
        sample_start_over(&sample);
        sample_must(sample_merge(&sample.options, 4, 0, &error), &error);
        assert_true(support_exists(sample.output, "package"));
        sample_assert_whole_or_absent(&sample);
        sample_family_close(&sample);
    }
}

/* After an end at any item the bytes and errors are those of a merge that never stopped. */
static void a_restart_takes_up_what_is_there(void **state)
{
    for (size_t m = 0; m < METHODS; m++) {
        sample_family sample;
        didi_error error = {0};
        create(&sample, state, m);
        sample.options.precision = both[(m + 1) % 2];
        sample_trouble_prepare(&sample);
        json_t *whole = sample_manifest(&sample, "reference");
        for (size_t items = 1; items < TASKS + 1 + TENSORS + 5;
             items += SUPPORT_SANITIZED ? 6 : 2) {
            sample_start_over(&sample);
            sample_merge_partly(&sample.options, items);
            sample_must(sample_merge(&sample.options, 1, 0, &error), &error);
            json_t *resumed = sample_manifest(&sample, "package");
            assert_true(
                json_equal(json_object_get(whole, "error"), json_object_get(resumed, "error")));
            sample_assert_whole_or_absent(&sample);
            json_decref(resumed);
        }
        json_decref(whole);
        sample_family_close(&sample);
    }
}

/* Of a snapshot that is cut off nothing is taken. */
static void damaged_snapshots_are_computed_again(void **state)
{
    for (size_t m = 0; m < METHODS; m++) {
        sample_family sample;
        didi_error error = {0};
        create(&sample, state, m);
        sample_trouble_prepare(&sample);
        for (size_t l = 0; l < TENSORS; l++) {
            char name[64];
            sample_start_over(&sample);
            sample_merge_partly(&sample.options, TASKS + 1 + TENSORS);
            (void)snprintf(name, sizeof name, "experts-%05zu.state", l);
            int fd = openat(sample.work, name, O_RDWR | O_CLOEXEC);
            assert_true(fd >= 0);
            assert_int_equal(ftruncate(fd, lseek(fd, 0, SEEK_END) - 1), 0);
            close(fd);
            sample_must(sample_merge(&sample.options, 1, 0, &error), &error);
            sample_assert_whole_or_absent(&sample);
        }
        sample_family_close(&sample);
    }
}

static void every_fault_is_clean(void **state)
{
    static const sample_faults dense = {.memory = 30, .writes = 8, .full_disks = 4};
    for (size_t m = 0; m < METHODS; m += SUPPORT_SANITIZED ? 3 : 1) {
        sample_family sample;
        create(&sample, state, m);
        sample.options.precision = both[m % 2];
        sample_methods_check_faults(&sample, &dense);
        sample_family_close(&sample);
    }
}

/* ---- what is refused ---- */

static void check_refused(sample_family *sample, int wanted, const char *subject,
                          const char *message)
{
    didi_error error = {0};
    sample_must(file_remove_contents(sample->work, &error), &error);
    int status = sample_merge(&sample->options, 2, 0, &error);
    if (status != wanted)
        fail_msg("%s: %s, not %s: %s", sample->options.method, didi_status_name(status),
                 didi_status_name(wanted), error.message);
    support_assert_contains(error.subject, subject);
    support_assert_contains(error.message, message);
    assert_int_equal(support_entries(sample->output), 0);
}

static void options_are_refused_by_name(void **state)
{
    static const struct {
        const char *method, *options, *subject, *message;
    } cases[] = {
        {"tsv_c", "{\"rank_share\": 1.5}", "/method_options/rank_share", "at most 1"},
        {"tsv_c", "{\"rank\": 2}", "/method_options/rank", "it has 'rank_share'"},
        {"twin", "{\"scale\": 0}", "/method_options/scale", "above 0"},
        {"twin", "{\"rank_share\": 0}", "/method_options/rank_share", "above 0"},
        {"smile", "{\"rank\": 1.5}", "/method_options/rank", "integer"},
        {"smile", "{\"rank_share\": -1}", "/method_options/rank_share", "above 0"},
        {"wemoe", "{\"scale\": 11}", "/method_options/scale", "at most 10"},
        {"cart", "{\"rank_share\": \"x\"}", "/method_options/rank_share", "number"},
        {"svd_lora", "{\"rank\": 0}", "/method_options/rank", "at least 1"},
        {"individuals", "{\"rank\": 1}", "/method_options/rank", "it has none"},
    };
    sample_family sample;
    create(&sample, state, 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        sample.options.method = cases[i].method;
        sample.options.method_options = cases[i].options;
        check_refused(&sample, DIDI_INVALID, cases[i].subject, cases[i].message);
    }
    for (size_t m = 0; m < METHODS; m++) {
        sample.options.method = methods[m].name;
        sample.options.method_options = methods[m].options;
        sample.options.budget = 1.24;
        check_refused(&sample, DIDI_INVALID, "/budget", "size of its own");
        sample.options.budget = 0;
        sample.options.precision = DIDI_PRECISION_AUTO;
        check_refused(&sample, DIDI_INVALID, "/output/dtype", "auto");
        sample.options.precision = DIDI_PRECISION_F32;
    }
    sample_family_close(&sample);
}

/* A method that treats names apart says so where there are none of them. */
static void models_of_other_names_are_refused(void **state)
{
    static const safetensors_layout_entry others[] = {
        {"a", DIDI_DTYPE_F32, 2, shapes[0]},
        {"b", DIDI_DTYPE_F32, 1, shapes[1]},
    };
    static const char *const named[] = {"wemoe", "cart", "smile"};
    sample_family sample;
    create(&sample, state, 0);
    sample_tensors_write(sample.base, others, 2, fill, &(uint64_t){0});
    for (uint64_t t = 0; t < TASKS; t++)
        sample_tensors_write(sample.models[t], others, 2, fill, &(uint64_t){10 + t});
    for (size_t i = 0; i < 3; i++) {
        sample.options.method = named[i];
        check_refused(&sample, DIDI_INVALID, "/method", "no tensor has a name of");
    }
    sample_family_close(&sample);
}

static void a_task_like_the_base_is_refused(void **state)
{
    for (size_t m = 0; m < METHODS; m++) {
        sample_family sample;
        create(&sample, state, m);
        sample_tensors_write(sample.models[1], entries, TENSORS, fill, &(uint64_t){0});
        check_refused(&sample, DIDI_MISMATCH, "lab/t1", "identical to the base");
        sample_family_close(&sample);
    }
}

/* Below what the widest tensor needs a limit is refused with the figure; at it a merge works. */
static void limits_are_kept(void **state)
{
    for (size_t m = 0; m < METHODS; m++) {
        char figure[64];
        sample_family sample;
        didi_error error = {0};
        didi_merge *merge = NULL;
        create(&sample, state, m);
        sample_must(didi_merge_open(&sample.options, NULL, &merge, &error), &error);
        uint64_t needed = didi_merge_plan(merge)->memory_minimum_bytes;
        didi_merge_close(merge);
        sample.options.memory_limit = needed - 1;
        (void)snprintf(figure, sizeof figure, "needs %llu", (unsigned long long)needed);
        check_refused(&sample, DIDI_MEMORY_LIMIT, "memory_limit", figure);
        sample.options.memory_limit = needed;
        sample_must(sample_merge(&sample.options, 2, 0, &error), &error);
        sample_family_close(&sample);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        support_test(the_reference_is_met),
        support_test(the_gate_of_smile_is_in_the_package),
        support_test(each_tensor_has_its_part),
        support_test(every_dtype_gives_what_it_measures),
        support_test(panels_join),
        support_test(factors_are_exported_as_they_are),
        support_test(the_manifest_tells_how_tensors_are_kept),
        support_test(unchanged_tensors_have_no_expert),
        support_test(no_more_components_are_stored_than_there_are),
        support_test(weights_of_tasks_count),
        support_test(any_number_of_threads_gives_the_same_bytes),
        support_test(a_restart_takes_up_what_is_there),
        support_test(damaged_snapshots_are_computed_again),
        support_test(every_fault_is_clean),
        support_test(options_are_refused_by_name),
        support_test(models_of_other_names_are_refused),
        support_test(a_task_like_the_base_is_refused),
        support_test(limits_are_kept),
    };
    return cmocka_run_group_tests(tests, sample_use_one_thread, NULL);
}
