/* SPDX-License-Identifier: Apache-2.0 */
/* A base and a package written by hand, adapters and routers of them, and what these hold. */
#pragma once

#include "src/didi.h"
#include "src/files/files.h"

#include <jansson.h>

/* One array of a package; file 0 is shared, 1 the expert. */
typedef struct sample_stage_part {
    size_t file;
    const char *name;
    uint64_t shape[2]; /* the second is 0 of one dimension */
} sample_stage_part;

typedef struct sample_stage_tensor {
    const char *name;
    size_t dimensions;
    uint64_t shape[4];
} sample_stage_tensor;

/* NUMBERS: of a tensor, at most. */
enum { SAMPLE_STAGE_TENSORS = 16, SAMPLE_STAGE_PARTS = 20, SAMPLE_STAGE_NUMBERS = 4096 };
extern const sample_stage_tensor sample_stage_base[SAMPLE_STAGE_TENSORS];
extern const sample_stage_part sample_stage_usual[SAMPLE_STAGE_PARTS];

typedef struct sample_stage {
    int root, base, package, out;
    bool routes; /* routers are exported */
    didi_adapter_options options;
    didi_adapter_report report;
} sample_stage;

/* Writes base and package below `root`, the package with the usual parts unless others are given.
 */
void sample_stage_prepare(sample_stage *self, int root);
void sample_stage_prepare_as(sample_stage *self, int root, const sample_stage_part *parts,
                             size_t count, didi_dtype dtype);
void sample_stage_finish(sample_stage *self);
/* The base anew, `config` as its config.json unless NULL. */
void sample_stage_write_base(const sample_stage *self, const char *config);
/* The base's numbers. */
void sample_stage_fill(void *context, size_t tensor, float *values, size_t count);
int sample_stage_directory(int parent, const char *name);

int sample_stage_task(sample_stage *self, const char *task, didi_error *error);
/* Task "t", which must go well. */
void sample_stage_must(sample_stage *self);

/* What the package's reader adds to a tensor. The caller frees. */
double *sample_stage_change(const sample_stage *self, const char *tensor, uint64_t rows,
                            uint64_t columns);

/* ---- an adapter that was written */

typedef struct sample_adapter {
    int directory, fd;
    safetensors_header *header;
    json_t *config, *report;
} sample_adapter;

extern const char *const sample_adapter_linear[2];    /* ends of the names of A and B */
extern const char *const sample_adapter_embedding[2]; /* likewise of an embedding */

sample_adapter sample_adapter_open(const sample_stage *self);
void sample_adapter_close(sample_adapter *self);
/* NULL where it has none. */
const safetensors_tensor *sample_adapter_find(const sample_adapter *self, const char *module,
                                              const char *member);
/* By its whole name, or by its module and member. The caller frees. */
float *sample_adapter_read(const sample_adapter *self, const char *name,
                           const safetensors_tensor **ret_found);
float *sample_adapter_read_array(const sample_adapter *self, const char *module, const char *member,
                                 const safetensors_tensor **ret_found);
/* |product - wanted|^2 / |wanted|^2, or |product|^2 where nothing is wanted. */
double sample_adapter_error(const sample_stage *self, const sample_adapter *opened,
                            const char *module, const char *const members[2], bool transposed);
