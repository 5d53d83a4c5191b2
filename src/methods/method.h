/* SPDX-License-Identifier: Apache-2.0 */
/* What a merging method is to the engine: one row of a table (methods.c). A method computes; it
 * never opens, names or syncs a file. docs/adding_a_method.md goes through one. */
#pragma once

#include "src/methods/options.h"
#include "src/methods/stored.h"
#include "src/work/work.h"

#include <jansson.h>

/* One step of a method: `each` for every tensor, or `once` for all. An item of `each` may run on
 * any thread, in any order and, after a crash, again; it computes the same then. */
typedef struct method_stage {
    const char *name;   /* first part of its snapshots' names */
    didi_stage told_as; /* to users */
    double share;       /* of the whole work, for progress */
    int (*each)(void *self, size_t tensor, stored *out, didi_error *error);
    int (*once)(void *self, didi_error *error);
    /* The rest may be NULL. */
    bool (*skipped)(const void *self); /* the row has nothing to do */
    /* Its items add to what a later row saves and leave no states of their own: all run in one
     * process. */
    bool in_memory;
    bool (*recall)(void *self, size_t tensor);           /* a snapshot is there: taken up */
    void (*report)(void *self);                          /* tells of progress after an item */
    uint64_t (*memory)(const void *self, size_t tensor); /* bytes; NULL: T + 4 panels */
} method_stage;

enum {
    METHOD_TAKES_BUDGET = 1,  /* else its size is its own */
    METHOD_MATRICES_ONLY = 2, /* the engine keeps the other tensors whole (options.dense) */
    METHOD_EXTENDS = 4,       /* can make experts for what a package shares */
    METHOD_REUSES = 8,        /* can start from what an earlier merge left (`choose`, `leave`) */
    METHOD_ONE_MODEL = 16,    /* its answer is one model for all tasks */
    METHOD_SURVEYS = 32,      /* knows error against budget before its last rows (`foresees`) */
    METHOD_TAKES_GRAMS = 64,  /* needs the Gram matrices of every task's inputs (`gram`) */
};

typedef struct didi_method {
    const char *name;
    const char *summary; /* one line, for people */
    const char *needs;   /* data it cannot do without: it is refused with this reason */
    unsigned flags;
    const method_option *options; /* /method_options: ends with a NULL name; NULL: none */
    const method_option *fields;  /* the same in didi_merge_options, named by their pointers */
    size_t self_bytes;            /* of `self`, which begins with a method_head */
    const method_stage *stages;
    size_t stage_count;

    /* All may be NULL, but `choose` and `leave` with METHOD_REUSES, and the two of METHOD_SURVEYS.
     * `self` is zeroed and has its options when `open` is called. */
    int (*check)(const didi_merge_options *options, didi_error *error);
    int (*open)(void *self, didi_error *error);     /* layers are listed, nothing is read */
    int (*plan)(void *self, didi_error *error);     /* fills work->plan; NULL: of its size */
    int (*begin)(void *self, didi_error *error);    /* there will be output; summaries exist */
    void (*choose)(void *self, const json_t *left); /* what of an earlier merge fits */
    json_t *(*leave)(const void *self);             /* for `choose` of a later merge */
    /* After the last row: whether to go back to row *ret_stage. */
    int (*again)(void *self, bool *ret_again, size_t *ret_stage, didi_error *error);
    /* Share of `stage` that is done while row `now` is done by `within`; NULL: in order. */
    double (*progress)(const void *self, size_t stage, size_t now, double within);
    didi_stage (*told_as)(const void *self, size_t stage); /* NULL: the row's */
    /* Whether error against budget is known when the rows before `stage` are done; then `foresee`
     * adds its section `frontier` to a document, of which `of` has what is known. */
    bool (*foresees)(const void *self, size_t stage);
    int (*foresee)(const void *self, const figures *of, json_t *document, didi_error *error);
    /* Its own sections of the manifest of a merge that is no survey. */
    int (*describe)(const void *self, const figures *of, json_t *manifest, didi_error *error);
    void (*close)(void *self);
} didi_method;

/* What `self` of every method begins with. */
typedef struct method_head {
    work *work;
} method_head;

/* The only list; ends with NULL. */
extern const didi_method *const didi_methods[];

/* NULL name: the default. Errors: DIDI_INVALID with subject "/method": unknown (the message names
 * those there are), or in need of data that cannot be given (says which). */
int method_find(const char *name, const didi_method **ret_method, didi_error *error);

/* Ranges of the method's fields. Errors: DIDI_INVALID, subject: the field. */
int method_check_fields(const didi_method *method, const didi_merge_options *options,
                        didi_error *error);
