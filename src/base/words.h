/* SPDX-License-Identifier: Apache-2.0 */
/* Words, defaults and ranges of options, said once: the library checks by these tables, the
 * contract parses by them, and a test holds openapi.yaml to them. Tables only. */
#pragma once

/* Names are what specifications and manifests say. */
#define DIDI_ALLOCATOR_TABLE(X)                                                                    \
    X(UNIFORM, "uniform")               /* the same share of full rank everywhere */               \
    X(EXACT, "exact")                   /* greedy by gain per parameter (method.md 5) */           \
    X(DIFFERENTIABLE, "differentiable") /* tanh gate, Adam (paper 4.2, method.md 5) */             \
    X(JOINT, "joint")                   /* exact, re-allocated between sweeps (method.md 6) */     \
    X(PURSUIT, "pursuit")               /* grown from zero (method.md 6) */
#define DIDI_WEIGHTING_TABLE(X)                                                                    \
    X(NONE, "none")         /* every task vector as it is */                                       \
    X(BALANCED, "balanced") /* each layer by 1 / (mean_t |tau_t|^2)^(1/2) */                       \
    X(ACCURACY, "accuracy") /* balanced; queries and keys by half; lengths restored */
#define DIDI_OBJECTIVE_TABLE(X)                                                                    \
    X(MEAN, "mean")             /* the weighted sum over tasks */                                  \
    X(WORST_TASK, "worst_task") /* tasks weighted until their relative errors are alike */
#define DIDI_OPTIMIZER_TABLE(X)                                                                    \
    X(ALS, "als")   /* alternating least squares */                                                \
    X(ADAM, "adam") /* the paper's */
#define DIDI_DENSE_TABLE(X)                                                                        \
    X(PER_TASK, "per_task") /* tensors without factors are kept whole for every task */            \
    X(MEAN, "mean")         /* their mean delta is stored once, as shared */                       \
    X(BASE, "base")         /* nothing is stored: the base's value serves */                       \
    X(AUTO, "auto")         /* matrices per task; vectors too where they earn it, else the mean */
#define DIDI_MERGE_TABLE(X)                                                                        \
    X(MEAN, "mean") /* S starts as the mean of the task vectors (paper 4.1) */                     \
    X(NONE, "none") /* no shared part: experts alone */
#define DIDI_PRECISION_TABLE(X)                                                                    \
    X(F32, "f32")                                                                                  \
    X(BF16, "bf16")                                                                                \
    X(F16, "f16")                                                                                  \
    X(INT8, "int8") /* packed with a scale for every group (packed.h); 4 and 3 bits likewise */    \
    X(INT4, "int4")                                                                                \
    X(INT3, "int3")                                                                                \
    X(AUTO, "auto") /* 1 to 8 bits for each component, allocated with the ranks */
#define DIDI_OWN_TABLE(X)                                                                          \
    X(KEEP, "keep")     /* what only a task has is kept whole in its expert */                     \
    X(DROP, "drop")     /* it is not stored */                                                     \
    X(REFUSE, "refuse") /* such a task is refused */
#define DIDI_MISSING_TABLE(X)                                                                      \
    X(AUTO, "auto") /* buffers, tied weights and what no task has are the base's, else refused */  \
    X(BASE, "base") /* what a task lacks is the base's */                                          \
    X(REFUSE, "refuse")
#define DIDI_BUDGET_TABLE(X)                                                                       \
    X(PARAMETERS, "parameters") /* stored parameters / one model's; with auto, of 16 bits each */  \
    X(BYTES, "bytes")           /* of the safetensors files, headers too */                        \
    X(BYTES_RATIO, "bytes_ratio") /* the same / bytes of the base's files */                       \
    X(MAX_ERROR, "max_error")     /* the smallest package of at most this relative error */

/* Budgets by name, in the first unit, and where a survey without a budget looks closest: from a
 * fifth of it to twice it merges come out nearly as if made afresh (docs/experiments.md). */
#define DIDI_SIZE_TABLE(X) X("S", 1.24) X("M", 1.4) X("L", 2.0)
#define DIDI_SURVEY_BUDGET 1.0

#define DIDI_OPTION_ENUMERATOR_ALLOCATOR(id, name) DIDI_ALLOCATOR_##id,
#define DIDI_OPTION_ENUMERATOR_WEIGHTING(id, name) DIDI_WEIGHTING_##id,
#define DIDI_OPTION_ENUMERATOR_OBJECTIVE(id, name) DIDI_OBJECTIVE_##id,
#define DIDI_OPTION_ENUMERATOR_OPTIMIZER(id, name) DIDI_OPTIMIZER_##id,
#define DIDI_OPTION_ENUMERATOR_DENSE(id, name) DIDI_DENSE_##id,
#define DIDI_OPTION_ENUMERATOR_MERGE(id, name) DIDI_SHARED_##id,
#define DIDI_OPTION_ENUMERATOR_PRECISION(id, name) DIDI_PRECISION_##id,
#define DIDI_OPTION_ENUMERATOR_OWN(id, name) DIDI_OWN_##id,
#define DIDI_OPTION_ENUMERATOR_MISSING(id, name) DIDI_MISSING_##id,
#define DIDI_OPTION_ENUMERATOR_BUDGET(id, name) DIDI_BUDGET_##id,
typedef enum didi_allocator {
    DIDI_ALLOCATOR_TABLE(DIDI_OPTION_ENUMERATOR_ALLOCATOR)
} didi_allocator;
typedef enum didi_weighting {
    DIDI_WEIGHTING_TABLE(DIDI_OPTION_ENUMERATOR_WEIGHTING)
} didi_weighting;
typedef enum didi_objective {
    DIDI_OBJECTIVE_TABLE(DIDI_OPTION_ENUMERATOR_OBJECTIVE)
} didi_objective;
typedef enum didi_optimizer {
    DIDI_OPTIMIZER_TABLE(DIDI_OPTION_ENUMERATOR_OPTIMIZER)
} didi_optimizer;
typedef enum didi_dense { DIDI_DENSE_TABLE(DIDI_OPTION_ENUMERATOR_DENSE) } didi_dense;
typedef enum didi_shared_merge { DIDI_MERGE_TABLE(DIDI_OPTION_ENUMERATOR_MERGE) } didi_shared_merge;
typedef enum didi_precision {
    DIDI_PRECISION_TABLE(DIDI_OPTION_ENUMERATOR_PRECISION)
} didi_precision;
typedef enum didi_own_tensors { DIDI_OWN_TABLE(DIDI_OPTION_ENUMERATOR_OWN) } didi_own_tensors;
typedef enum didi_missing { DIDI_MISSING_TABLE(DIDI_OPTION_ENUMERATOR_MISSING) } didi_missing;
typedef enum didi_budget_unit { DIDI_BUDGET_TABLE(DIDI_OPTION_ENUMERATOR_BUDGET) } didi_budget_unit;

/* Numbers of the default method: member, key and field of a specification, default, lowest, whether
 * that is out, highest, help. */
#define DIDI_RANK_NUMBERS(X)                                                                       \
    X(beta, "beta", "/ranks/beta", 1.0, 0, true, 1e6, "gate sharpness; differentiable only")       \
    X(lambda, "lambda", "/ranks/lambda", 1.0, 0, false, 1e9,                                       \
      "weight of the distance from the budget; differentiable only")                               \
    X(rank_learning_rate, "learning_rate", "/ranks/learning_rate", 1.0, 0, true, 1e6,              \
      "in units of rank; differentiable only")
#define DIDI_RANK_COUNTS(X)                                                                        \
    X(rank_steps, "steps", "/ranks/steps", 200, 0, false, 1e5, "of Adam; differentiable only")
enum { DIDI_REFINE_STEPS = 30, DIDI_REFINE_STEPS_ADAM = 200 };
#define DIDI_REFINE_COUNTS(X)                                                                      \
    X(refine_steps, "steps", "/refine/steps", DIDI_REFINE_STEPS, 0, false, 1e5,                    \
      "sweeps of als or steps of adam (then 200), at most; 0: none")
#define DIDI_REFINE_NUMBERS(X)                                                                     \
    X(refine_learning_rate, "learning_rate", "/refine/learning_rate", 0.02, 0, true, 1e3,          \
      "of the factors' root mean square; adam only")                                               \
    X(tolerance, "tolerance", "/refine/tolerance", 2e-3, 0, false, 1,                              \
      "a layer ends when a sweep lowers its loss by less than this share")

/* Choices of the default method: member, field of a specification, default, words, help. */
#define DIDI_CHOICES(X)                                                                            \
    X(shared_merge, "/shared/merge", DIDI_SHARED_MEAN, DIDI_MERGE_TABLE,                           \
      "start of what is shared")                                                                   \
    X(allocator, "/ranks/allocator", DIDI_ALLOCATOR_PURSUIT, DIDI_ALLOCATOR_TABLE,                 \
      "how ranks are found")                                                                       \
    X(weighting, "/ranks/weighting", DIDI_WEIGHTING_ACCURACY, DIDI_WEIGHTING_TABLE,                \
      "what layers and tasks weigh (none with differentiable)")                                    \
    X(objective, "/objective", DIDI_OBJECTIVE_MEAN, DIDI_OBJECTIVE_TABLE, "what is made small")    \
    X(optimizer, "/refine/optimizer", DIDI_OPTIMIZER_ALS, DIDI_OPTIMIZER_TABLE, "of refinement")   \
    X(dense, "/dense", DIDI_DENSE_AUTO, DIDI_DENSE_TABLE, "what is kept of tensors without factors")
