/* SPDX-License-Identifier: Apache-2.0 */
/* Names that differ by a prefix, tensors that only base or task has, and shapes that differ. */
#include "src/layer/family_match.h"

#include "src/base/base.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- what is told of models that do not match ---- */

typedef struct differences {
    size_t count;
    const char *culprit; /* the first model */
    char text[640];
    size_t used;
} differences;

static void note_difference(differences *self, const checkpoint *model, const char *tensor,
                            const char *what)
{
    if (self->culprit == NULL)
        self->culprit = checkpoint_label(model);
    if (self->count++ >= FAMILY_DIFFERENCES_SHOWN || self->used + 1 >= sizeof self->text)
        return;
    int written =
        snprintf(self->text + self->used, sizeof self->text - self->used, "%s'%s' in %s: %s",
                 self->count > 1 ? "; " : "", tensor, checkpoint_label(model), what);
    if (written < 0 || (size_t)written >= sizeof self->text - self->used)
        self->text[self->used] = '\0'; /* no half entries */
    else
        self->used += (size_t)written;
}

static void describe_shape(const safetensors_tensor *tensor, char *text, size_t size)
{
    size_t used = (size_t)snprintf(text, size, "%s [", didi_dtype_name(tensor->dtype));
    for (size_t i = 0; i < tensor->dimensions && used < size; i++)
        used += (size_t)snprintf(text + used, size - used, "%s%llu", i > 0 ? ", " : "",
                                 (unsigned long long)tensor->shape[i]);
    if (used < size)
        (void)snprintf(text + used, size - used, "]");
}

static void note_shapes(differences *self, const checkpoint *model, const safetensors_tensor *base,
                        const safetensors_tensor *other)
{
    char ours[128];
    char theirs[128];
    char what[300];
    describe_shape(base, ours, sizeof ours);
    describe_shape(other, theirs, sizeof theirs);
    (void)snprintf(what, sizeof what, "%s, the base has %s", theirs, ours);
    note_difference(self, model, base->name, what);
}

static int tell_differences(const family *self, const differences *found, didi_error *error)
{
    if (found->count == 0)
        return DIDI_OK;
    return didi_fail(error, DIDI_MISMATCH, found->culprit,
                     "%zu difference%s from the base %s: %s%s", found->count,
                     found->count == 1 ? "" : "s", checkpoint_label(self->base), found->text,
                     found->count > FAMILY_DIFFERENCES_SHOWN ? "; ..." : "");
}

/* ---- names ---- */

static bool ends_with(const char *name, const char *end, size_t *ret_before)
{
    size_t length = strlen(name);
    size_t tail = strlen(end);
    *ret_before = length - tail;
    return length > tail && name[length - tail - 1] == '.' &&
           strcmp(name + length - tail, end) == 0;
}

/* The tensor called prefix + name; both lists are sorted by name. */
static const checkpoint_tensor *find_joined(const checkpoint *model, const char *prefix,
                                            const char *name)
{
    size_t length = strlen(prefix);
    size_t low = 0;
    size_t high = checkpoint_count(model);
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const checkpoint_tensor *at = checkpoint_at(model, middle);
        int order = strncmp(prefix, at->tensor->name, length);
        if (order == 0)
            order = strcmp(name, at->tensor->name + length);
        if (order == 0)
            return at;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

static const checkpoint_tensor *find_without(const checkpoint *model, const char *prefix,
                                             const char *name)
{
    size_t length = strlen(prefix);
    return strncmp(name, prefix, length) == 0 ? checkpoint_find(model, name + length) : NULL;
}

/* The tensor of a task's model that the base has as `name`, or NULL. */
static const checkpoint_tensor *find_in_task(const family *self, size_t task, const char *name)
{
    const family_task *of = &self->tasks[task];
    if (of->prefix == NULL)
        return checkpoint_find(of->model, name);
    return of->prefix_dropped ? find_without(of->model, of->prefix, name)
                              : find_joined(of->model, of->prefix, name);
}

bool family_task_has(const family *self, size_t task, const char *name)
{
    return self->tasks[task].adapter != NULL || find_in_task(self, task, name) != NULL;
}

/* The base's tensor that a task's is a change of. */
static const checkpoint_tensor *find_in_base(const family *self, size_t task, const char *name)
{
    const family_task *of = &self->tasks[task];
    if (of->prefix == NULL)
        return checkpoint_find(self->base, name);
    return of->prefix_dropped ? find_joined(self->base, of->prefix, name)
                              : find_without(self->base, of->prefix, name);
}

static size_t count_matches(const family *self, size_t task)
{
    size_t count = 0;
    const adapter *of = self->tasks[task].adapter;
    for (size_t i = 0; of == NULL && i < self->tensor_count; i++)
        count += find_in_task(self, task, self->tensors[i].name) != NULL;
    for (size_t i = 0; of != NULL && i < adapter_count(of); i++)
        count += find_in_base(self, task, adapter_at(of, i)->name) != NULL;
    return count;
}

static bool same_shape(const safetensors_tensor *a, const safetensors_tensor *b)
{
    return a->dimensions == b->dimensions &&
           (a->dimensions == 0 ||
            memcmp(a->shape, b->shape, a->dimensions * sizeof *a->shape) == 0);
}

/* Takes the prefix that `probe` of the base and `other` of the task differ by, if it makes more
 * names match than the best one so far. */
static int try_prefix(family *self, size_t task, const char *probe, const char *other, size_t *best,
                      didi_error *error)
{
    family_task *of = &self->tasks[task];
    size_t length = 0;
    bool dropped = false;
    if (ends_with(probe, other, &length))
        dropped = true;
    else if (!ends_with(other, probe, &length))
        return DIDI_OK;
    family_task former = *of;
    of->prefix = memory_format("%.*s", (int)length, dropped ? probe : other);
    of->prefix_dropped = dropped;
    if (of->prefix == NULL) {
        *of = former;
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "prefix of names");
    }
    size_t count = count_matches(self, task);
    char *worse = count > *best ? former.prefix : of->prefix;
    if (count > *best)
        *best = count;
    else
        *of = former;
    free(worse);
    return DIDI_OK;
}

/* The first names of an adapter are looked for under others. */
static int find_adapter_prefix(family *self, size_t task, didi_error *error)
{
    enum { PROBES = 8 };
    const adapter *of = self->tasks[task].adapter;
    size_t best = count_matches(self, task);
    int status = DIDI_OK;
    for (size_t p = 0; p < PROBES && p < adapter_count(of) && best < adapter_count(of); p++)
        for (size_t i = 0; i < self->tensor_count && status == DIDI_OK; i++)
            status = try_prefix(self, task, self->tensors[i].name, adapter_at(of, p)->name, &best,
                                error);
    return status;
}

/* The largest tensors of the base are looked for under other names. */
static int find_prefix(family *self, size_t task, didi_error *error)
{
    enum { PROBES = 8 };
    const checkpoint *model = self->tasks[task].model;
    const safetensors_tensor *probes[PROBES] = {NULL};
    size_t best = count_matches(self, task);
    int status = DIDI_OK;
    if (best == self->tensor_count)
        return DIDI_OK;
    for (size_t i = 0; i < self->tensor_count; i++) {
        const safetensors_tensor *next = self->tensors[i].base->tensor;
        for (size_t p = 0; p < PROBES && next != NULL; p++)
            if (probes[p] == NULL || next->elements > probes[p]->elements) {
                const safetensors_tensor *smaller_one = probes[p];
                probes[p] = next;
                next = smaller_one;
            }
    }
    for (size_t p = 0; p < PROBES && probes[p] != NULL; p++)
        for (size_t j = 0; j < checkpoint_count(model) && status == DIDI_OK; j++) {
            const safetensors_tensor *other = checkpoint_at(model, j)->tensor;
            if (same_shape(probes[p], other))
                status = try_prefix(self, task, probes[p]->name, other->name, &best, error);
        }
    if (status == DIDI_OK && best == 0)
        status = didi_fail(error, DIDI_MISMATCH, checkpoint_label(model),
                           "no tensor of %s is one of the base %s: its first is '%s', the base's "
                           "'%s'",
                           checkpoint_label(model), checkpoint_label(self->base),
                           checkpoint_count(model) > 0 ? checkpoint_at(model, 0)->tensor->name : "",
                           self->tensor_count > 0 ? self->tensors[0].name : "");
    return status;
}

/* ---- tensors ---- */

typedef struct matching {
    const didi_merge_options *options;
    family *family;
    differences found;
} matching;

/* Rows were added to a matrix, as to embeddings when a vocabulary grows. Where the number of rows
 * changes by more, they mean something else (classes of a head). */
static bool grew(const safetensors_tensor *base, const safetensors_tensor *other)
{
    enum { GROWN_SHARE = 8 };
    return base->dimensions == 2 && other->dimensions == 2 && base->shape[1] == other->shape[1] &&
           other->shape[0] > base->shape[0] &&
           other->shape[0] - base->shape[0] <= base->shape[0] / GROWN_SHARE;
}

static bool dtypes_go_together(const safetensors_tensor *a, const safetensors_tensor *b)
{
    return a->dtype == b->dtype || (didi_dtype_is_float(a->dtype) && didi_dtype_is_float(b->dtype));
}

/* Room is for all tensors of the model. */
static int add_own(family_task *of, const char *name, const checkpoint_tensor *source,
                   const family_tensor *grown, didi_error *error)
{
    if (of->own == NULL)
        of->own = memory_zeroed(checkpoint_count(of->model), sizeof *of->own);
    if (of->own == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, checkpoint_label(of->model), "list of tensors");
    assert(of->own_count < checkpoint_count(of->model));
    of->own[of->own_count++] = (family_own){.name = name, .source = source, .grown = grown};
    return DIDI_OK;
}

static int match_other_shape(matching *self, family_tensor *tensor, size_t task,
                             const checkpoint_tensor *found, didi_error *error)
{
    const checkpoint *model = self->family->tasks[task].model;
    const safetensors_tensor *base = tensor->base->tensor;
    bool grown = grew(base, found->tensor) && dtypes_go_together(base, found->tensor) &&
                 didi_dtype_is_float(base->dtype);
    if (tensor->kind == FAMILY_EXCLUDED)
        return DIDI_OK;
    if (self->options->own_tensors == DIDI_OWN_REFUSE) {
        note_shapes(&self->found, model, base, found->tensor);
        return DIDI_OK;
    }
    if (grown)
        tensor->task[task] = found;
    if (self->options->own_tensors == DIDI_OWN_DROP)
        return DIDI_OK;
    return add_own(&self->family->tasks[task], grown ? tensor->name : found->tensor->name, found,
                   grown ? tensor : NULL, error);
}

static int match_tensor(matching *self, family_tensor *tensor, size_t task,
                        const checkpoint_tensor *found, didi_error *error)
{
    if (!same_shape(tensor->base->tensor, found->tensor))
        return match_other_shape(self, tensor, task, found, error);
    if (dtypes_go_together(tensor->base->tensor, found->tensor))
        tensor->task[task] = found;
    else if (tensor->kind != FAMILY_EXCLUDED)
        note_shapes(&self->found, self->family->tasks[task].model, tensor->base->tensor,
                    found->tensor);
    return DIDI_OK;
}

/* Computed when a model is made, and saved by some libraries only. */
static bool is_buffer(const family_tensor *tensor)
{
    static const char *const names[] = {"*position_ids",  "*token_type_ids",     "*inv_freq",
                                        "*masked_bias",   "*.attn.bias",         "*attn_mask",
                                        "*.rotary_emb.*", "*num_batches_tracked"};
    return tensor->kind == FAMILY_PASSTHROUGH ||
           family_name_matches(tensor->name, names, sizeof names / sizeof *names);
}

/* A name that libraries leave out when the tensor is another one of the model: of the same shape,
 * which the task has. */
static bool is_tied(const family *self, const family_tensor *tensor, size_t task)
{
    static const char *const names[] = {"*lm_head*",   "*decoder.weight", "*decoder.bias",
                                        "*embed_out*", "*embed_tokens*",  "*shared.weight",
                                        "*wte.weight", "output.weight",   "*word_embeddings*"};
    if (!family_name_matches(tensor->name, names, sizeof names / sizeof *names))
        return false;
    for (size_t i = 0; i < self->tensor_count; i++)
        if (&self->tensors[i] != tensor && self->tensors[i].task[task] != NULL &&
            same_shape(self->tensors[i].base->tensor, tensor->base->tensor))
            return true;
    return false;
}

static void note_missing(matching *self, const family_tensor *tensor, size_t task)
{
    const family *all = self->family;
    didi_missing policy = self->options->missing;
    if (tensor->kind == FAMILY_EXCLUDED || policy == DIDI_MISSING_BASE)
        return;
    if (policy == DIDI_MISSING_AUTO && (is_buffer(tensor) || is_tied(all, tensor, task)))
        return;
    note_difference(&self->found, all->tasks[task].model, tensor->name,
                    "missing (missing: base takes the base's)");
}

static int match_base(matching *self, size_t task, didi_error *error)
{
    family *all = self->family;
    int status = DIDI_OK;
    for (size_t i = 0; i < all->tensor_count && status == DIDI_OK; i++) {
        const checkpoint_tensor *found = find_in_task(all, task, all->tensors[i].name);
        if (found != NULL)
            status = match_tensor(self, &all->tensors[i], task, found, error);
    }
    return status;
}

/* What no task has at all is refused only where everything is. */
static void check_missing(matching *self)
{
    family *all = self->family;
    for (size_t i = 0; i < all->tensor_count; i++) {
        family_tensor *tensor = &all->tensors[i];
        size_t lacking = 0;
        size_t merging = 0;
        for (size_t t = 0; t < all->task_count; t++) {
            lacking += !family_task_has(all, t, tensor->name);
            merging += family_has_vector(tensor, t) || all->tasks[t].adapter != NULL;
        }
        bool alone = lacking == all->task_count && self->options->missing != DIDI_MISSING_REFUSE;
        for (size_t t = 0; t < all->task_count && lacking > 0 && !alone; t++)
            if (!family_task_has(all, t, tensor->name))
                note_missing(self, tensor, t);
        if (merging == 0 && tensor->kind != FAMILY_EXCLUDED && all->task_count > 0)
            tensor->kind = FAMILY_UNUSED;
    }
}

static int match_alone(matching *self, size_t task, const char *name,
                       const checkpoint_tensor *source, didi_error *error)
{
    const didi_merge_options *options = self->options;
    family_task *of = &self->family->tasks[task];
    if (family_name_matches(name, options->exclude, options->exclude_count))
        return DIDI_OK;
    if (options->own_tensors == DIDI_OWN_REFUSE)
        note_difference(&self->found, of->model, name, "not in the base");
    return options->own_tensors == DIDI_OWN_KEEP ? add_own(of, name, source, NULL, error) : DIDI_OK;
}

static int match_rest(matching *self, size_t task, didi_error *error)
{
    const checkpoint *model = self->family->tasks[task].model;
    int status = DIDI_OK;
    for (size_t j = 0; j < checkpoint_count(model) && status == DIDI_OK; j++) {
        const checkpoint_tensor *tensor = checkpoint_at(model, j);
        const char *name = tensor->tensor->name;
        if (find_in_base(self->family, task, name) == NULL)
            status = match_alone(self, task, name, tensor, error);
    }
    return status;
}

/* ---- adapters ---- */

/* A linear map whose shape fits one way only is held that way, whatever the configuration says of
 * the others. */
static bool change_fits(const adapter_change *from, const family_tensor *tensor, bool *transposed)
{
    bool straight = from->rows == tensor->rows && from->columns == tensor->columns;
    bool turned = from->rows == tensor->columns && from->columns == tensor->rows;
    *transposed = from->is_linear && straight != turned ? turned : from->transposed;
    return *transposed ? turned : straight;
}

static void note_factors(matching *self, const checkpoint *model, const family_tensor *tensor,
                         const adapter_change *from)
{
    char ours[128];
    char what[300];
    describe_shape(tensor->base->tensor, ours, sizeof ours);
    (void)snprintf(what, sizeof what, "factors of %llu x %llu, the base has %s",
                   (unsigned long long)from->rows, (unsigned long long)from->columns, ours);
    note_difference(&self->found, model, tensor->name, what);
}

static int match_factors(matching *self, family_tensor *tensor, size_t task,
                         const adapter_change *from, didi_error *error)
{
    bool transposed = false;
    if (tensor->kind == FAMILY_EXCLUDED)
        return DIDI_OK;
    if (!didi_dtype_is_float(tensor->base->tensor->dtype) ||
        !change_fits(from, tensor, &transposed)) {
        note_factors(self, self->family->tasks[task].model, tensor, from);
        return DIDI_OK;
    }
    if (tensor->change == NULL)
        tensor->change = memory_zeroed(self->family->task_count, sizeof *tensor->change);
    if (tensor->change == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, tensor->name, "list of changes");
    tensor->change[task].from = from;
    tensor->change[task].transposed = transposed;
    return DIDI_OK;
}

static family_tensor *tensor_of(const family *self, const checkpoint_tensor *base)
{
    size_t i = 0;
    while (self->tensors[i].base != base)
        i++;
    return &self->tensors[i];
}

static int match_adapter(matching *self, size_t task, didi_error *error)
{
    const family *all = self->family;
    const adapter *of = all->tasks[task].adapter;
    int status = DIDI_OK;
    for (size_t i = 0; i < adapter_count(of) && status == DIDI_OK; i++) {
        const adapter_change *from = adapter_at(of, i);
        const checkpoint_tensor *base = find_in_base(all, task, from->name);
        if (base == NULL && from->a != NULL)
            note_difference(&self->found, all->tasks[task].model, from->name, "not in the base");
        else if (base == NULL)
            status = match_alone(self, task, from->name, from->value, error);
        if (base != NULL && from->value != NULL)
            status = match_tensor(self, tensor_of(all, base), task, from->value, error);
        if (base != NULL && from->a != NULL && status == DIDI_OK)
            status = match_factors(self, tensor_of(all, base), task, from, error);
    }
    return status;
}

static int match_model(matching *self, size_t task, didi_error *error)
{
    int status = match_base(self, task, error);
    return status == DIDI_OK ? match_rest(self, task, error) : status;
}

static int compare_own(const void *a, const void *b)
{
    return strcmp(((const family_own *)a)->name, ((const family_own *)b)->name);
}

static void sort_own(family_task *of)
{
    if (of->own_count > 0)
        qsort(of->own, of->own_count, sizeof *of->own, compare_own);
}

int family_match(const didi_merge_options *options, family *self, didi_error *error)
{
    matching all = {.options = options, .family = self};
    int status = DIDI_OK;
    for (size_t t = 0; t < self->task_count && status == DIDI_OK; t++)
        status = self->tasks[t].adapter != NULL ? find_adapter_prefix(self, t, error)
                                                : find_prefix(self, t, error);
    for (size_t t = 0; t < self->task_count && status == DIDI_OK; t++) {
        status = self->tasks[t].adapter != NULL ? match_adapter(&all, t, error)
                                                : match_model(&all, t, error);
        sort_own(&self->tasks[t]);
    }
    if (status != DIDI_OK)
        return status;
    check_missing(&all);
    return tell_differences(self, &all.found, error);
}

int family_keep_own(const didi_merge_options *options, family *self, family_tensor *tensor,
                    didi_error *error)
{
    int status = DIDI_OK;
    for (size_t t = 0; t < self->task_count && status == DIDI_OK; t++) {
        family_task *of = &self->tasks[t];
        const checkpoint_tensor *found = tensor->task[t];
        tensor->task[t] = NULL;
        if (found == NULL || options->own_tensors == DIDI_OWN_DROP)
            continue;
        if (options->own_tensors == DIDI_OWN_REFUSE)
            return didi_fail(error, DIDI_MISMATCH, checkpoint_label(of->model),
                             "tensor '%s' of model %s differs from the base and is not merged",
                             tensor->name, checkpoint_label(of->model));
        status = add_own(of, found->tensor->name, found, NULL, error);
        sort_own(of);
    }
    return status;
}
