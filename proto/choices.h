/* SPDX-License-Identifier: Apache-2.0 */
/* The words a job specification may choose from, in the order of the library's enumerations. */
#pragma once

#define METHOD_CHOICES(X) X(METHOD_DIDI, "didi")
#define SHARED_MERGE_CHOICES(X) X(SHARED_MERGE_MEAN, "mean") X(SHARED_MERGE_NONE, "none")
#define ALLOCATOR_CHOICES(X)                                                                       \
    X(ALLOCATOR_UNIFORM, "uniform")                                                                \
    X(ALLOCATOR_EXACT, "exact")                                                                    \
    X(ALLOCATOR_DIFFERENTIABLE, "differentiable")                                                  \
    X(ALLOCATOR_JOINT, "joint")                                                                    \
    X(ALLOCATOR_PURSUIT, "pursuit")
#define WEIGHTING_CHOICES(X)                                                                       \
    X(WEIGHTING_NONE, "none")                                                                      \
    X(WEIGHTING_BALANCED, "balanced")                                                              \
    X(WEIGHTING_ACCURACY, "accuracy")
#define OBJECTIVE_CHOICES(X) X(OBJECTIVE_MEAN, "mean") X(OBJECTIVE_WORST_TASK, "worst_task")
#define OPTIMIZER_CHOICES(X) X(OPTIMIZER_ALS, "als") X(OPTIMIZER_ADAM, "adam")
#define DENSE_CHOICES(X)                                                                           \
    X(DENSE_PER_TASK, "per_task")                                                                  \
    X(DENSE_MEAN, "mean")                                                                          \
    X(DENSE_BASE, "base")                                                                          \
    X(DENSE_AUTO, "auto")
#define OUTPUT_DTYPE_CHOICES(X)                                                                    \
    X(OUTPUT_DTYPE_F32, "f32")                                                                     \
    X(OUTPUT_DTYPE_BF16, "bf16")                                                                   \
    X(OUTPUT_DTYPE_F16, "f16")                                                                     \
    X(OUTPUT_DTYPE_INT8, "int8")                                                                   \
    X(OUTPUT_DTYPE_INT4, "int4")                                                                   \
    X(OUTPUT_DTYPE_INT3, "int3")                                                                   \
    X(OUTPUT_DTYPE_AUTO, "auto")
#define BUDGET_CHOICES(X)                                                                          \
    X(BUDGET_PARAMETERS, "parameters")                                                             \
    X(BUDGET_BYTES, "bytes")                                                                       \
    X(BUDGET_BYTES_RATIO, "bytes_ratio")                                                           \
    X(BUDGET_MAX_ERROR, "max_error")

#define CHOICE_ENUMERATOR(id, name) id,
enum { METHOD_CHOICES(CHOICE_ENUMERATOR) };
enum { SHARED_MERGE_CHOICES(CHOICE_ENUMERATOR) };
enum { ALLOCATOR_CHOICES(CHOICE_ENUMERATOR) };
enum { WEIGHTING_CHOICES(CHOICE_ENUMERATOR) };
enum { OBJECTIVE_CHOICES(CHOICE_ENUMERATOR) };
enum { OPTIMIZER_CHOICES(CHOICE_ENUMERATOR) };
enum { DENSE_CHOICES(CHOICE_ENUMERATOR) };
enum { OUTPUT_DTYPE_CHOICES(CHOICE_ENUMERATOR) };
enum { BUDGET_CHOICES(CHOICE_ENUMERATOR) };
#undef CHOICE_ENUMERATOR
