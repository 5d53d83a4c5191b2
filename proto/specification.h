/* SPDX-License-Identifier: Apache-2.0 */
/* The job specification: what one merge depends on, as users write it and as it is kept. */
#pragma once

#include "proto/budget.h"
#include "proto/field.h"
#include "proto/limits.h"
#include "proto/specification_defaults.h"
#include "src/base/base.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct specification_task {
    char *name;    /* unique in the job */
    char *model;   /* relative name, unique in the job, not the base */
    double weight; /* > 0 */
    char *gram;    /* relative name of a directory with Gram matrices; NULL for none */
} specification_task;

typedef struct specification_label {
    char *key, *value;
} specification_label;

/* What a job takes over from a finished one (docs/operations.md, "Extending a job"). */
typedef struct specification_extend {
    char *job;       /* NULL: nothing */
    field_texts add; /* names of the tasks added, among the job's tasks */
    field_texts remove;
    /* Of each task added, parameters or bytes; none where none is, and with rebalance. */
    specification_budget budget;
    bool rebalance, compare;
} specification_extend;

/* Every field holds its default when the user gave none. Choices are enumerators of
 * src/base/words.h. */
typedef struct specification {
    char *name;     /* "" when none was given */
    char *from_job; /* the job whose spectra it starts from; NULL for none */
    char *base;     /* NULL, and no tasks, until inherited from from_job */
    specification_task *tasks;
    size_t task_count;
    size_t kept;          /* so many of the tasks, the first, are those of the job it extends */
    char *method;         /* the daemon knows which there are */
    char *method_options; /* JSON text of an object; NULL when none were given */
    bool survey;          /* ends once error against budget is known; then budget may be none */
    specification_budget budget;
    int shared_merge;
    int allocator;
    int weighting;
    int objective;
    double beta, lambda, rank_learning_rate;
    int64_t rank_steps;
    int optimizer;
    int64_t refine_steps;
    double refine_learning_rate, tolerance;
    field_texts include, exclude, dense_tensors, low_rank_tensors;
    int own_tensors, missing;
    int dense;
    int output_dtype;
    int64_t seed;
    int64_t priority;            /* higher first */
    specification_label *labels; /* by key */
    size_t label_count;
    specification_extend extend;
} specification;

/* Reads a specification from `bytes` bytes of JSON text (no NUL needed). Errors: DIDI_FORMAT (not
 * JSON, a key twice, nested too deep, longer than bytes_max), DIDI_INVALID (unknown field, wrong
 * type, out of range, conflict between fields; subject = JSON pointer to the culprit),
 * DIDI_NO_MEMORY. Free *ret_specification with specification_free. */
int specification_parse(const char *text, size_t bytes, size_t bytes_max,
                        specification **ret_specification, didi_error *error);

/* The same of a document that was read already; the first `kept` of its tasks are those of the job
 * it extends. */
int specification_read(json_t *document, size_t kept, specification **ret_specification,
                       didi_error *error);

/* The JSON pointer to a task, or to its `member` unless NULL, as the request counts its tasks. */
void specification_task_pointer(const specification *self, size_t task, const char *member,
                                char ret_pointer[DIDI_ERROR_SUBJECT_BYTES_MAX]);

/* True when new experts are made for the shared part of another job; false for a merge of its own,
 * a rebalanced one included. */
bool specification_extends(const specification *self);

/* True when its budget is held in bytes: the ratios of its events count these, not parameters. */
bool specification_counts_bytes(const specification *self);

/* Makes it the specification of a merge of its own, of the same tasks and total. */
void specification_forget_extend(specification *self);

/* Takes base and tasks, where they were left out, from those of the job it starts from. Errors:
 * DIDI_INVALID (others were given; subject = "/base" or "/tasks..."), DIDI_NO_MEMORY. */
int specification_inherit(specification *self, const specification *parent, didi_error *error);

/* NULL is fine. */
void specification_free(specification *made);

/* Canonical JSON: one line, all fields with their values, fixed order, numbers that read back
 * equal. Parsing it gives the same specification. Caller frees. Errors: DIDI_NO_MEMORY. */
int specification_render(const specification *self, char **ret_text, didi_error *error);

/* The labels alone, as a JSON object; caller frees. Errors: DIDI_NO_MEMORY. */
int specification_render_labels(const specification *self, char **ret_text, didi_error *error);
