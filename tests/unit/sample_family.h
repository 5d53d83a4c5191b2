/* SPDX-License-Identifier: Apache-2.0 */
/* Small families of models on disk, merges of them by threads of the test's own, and what their
 * artifacts hold when counted and rebuilt in double. */
#pragma once

#include "src/didi.h"
#include "src/files/dtype.h"
#include "src/files/safetensors.h"

enum { SAMPLE_TASKS_MAX = 8, SAMPLE_PARAMETERS = 993, SAMPLE_DENSE = 57 };

/* How a model differs from the usual one. Tensors, float unless said otherwise: a.weight [24, 16],
 * b.weight [12, 40], bias [24], conv [6, 4, 3], embed.weight [4, 6], empty [0, 4], one [],
 * steps [2] (I64), wide [1, 8]. */
typedef struct sample_model {
    uint64_t seed;      /* 0 = the base's values */
    didi_dtype dtype;   /* of the float tensors; 0 = F32 */
    const char *same;   /* a tensor left as in the base */
    const char *omit;   /* a tensor that is missing */
    const char *turn;   /* a tensor with its first two dimensions exchanged */
    bool extra;         /* a tensor more, "zzz" [3] */
    bool twins;         /* and "zz1" [3] with its values, "zz2" [3] with others */
    const char *grow;   /* a matrix with two rows more */
    const char *prefix; /* of all names */
    const char *poke;   /* a tensor that gets poke_value as its second element */
    float poke_value;
    int64_t steps; /* added to the integers */
} sample_model;

/* (Re)writes model.safetensors in a directory. */
void sample_model_write(int directory, const sample_model *model);

/* (Re)writes model.safetensors with these float32 tensors; `fill` gives each its values, zero
 * before.
 */
void sample_tensors_write(int directory, const safetensors_layout_entry *entries, size_t count,
                          void (*fill)(void *context, size_t tensor, float *values, size_t count),
                          void *context);

typedef struct sample_family {
    int root, base, work, output;
    int models[SAMPLE_TASKS_MAX];
    didi_task_input inputs[SAMPLE_TASKS_MAX];
    didi_merge_options options; /* volatile work, output "package", budget 1.4, float32 */
} sample_family;

/* Writes the usual base and `tasks` fine-tunes below the directory root. */
void sample_family_create(sample_family *sample, int root, size_t tasks);
void sample_family_close(sample_family *sample);

/* A whole merge by `threads` threads that also help each other. The item after which to cancel is
 * counted from 1; 0 = never. */
int sample_merge(const didi_merge_options *options, size_t threads, size_t cancel_after,
                 didi_error *error);

/* Runs `items` items of a merge, then closes it as if the process had ended. */
void sample_merge_partly(const didi_merge_options *options, size_t items);

/* Numbers in all artifact files of a package. */
uint64_t sample_package_parameters(const sample_family *sample, const char *package);

/* Number of tensors in one file of a package; with `tensor`, whether it is there. */
size_t sample_package_tensors(const sample_family *sample, const char *package, const char *file,
                              const char *tensor);

/* |rebuilt - fine-tune|^2 / |fine-tune - base|^2 of one task, all float tensors but `without`. */
double sample_package_error(const sample_family *sample, const char *package, size_t task,
                            const char *without);

/* Exports a task of a package; gives the directory of its model, which the caller closes. */
int sample_export(const sample_family *sample, const char *package, size_t task);

/* |exported - fine-tune|^2 / |fine-tune - base|^2 of the model in a directory, all float tensors;
 * it must have the base's tensors in the base's dtypes. */
double sample_exported_error(const sample_family *sample, int exported, size_t task);

/* Fails unless both packages hold the same bytes, the manifest aside. */
void sample_package_compare(const sample_family *sample, const char *one, const char *other);
