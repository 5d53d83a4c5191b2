/* SPDX-License-Identifier: Apache-2.0 */
/* The job specification's fields, read and written by one table. */
#include "proto/specification.h"

#include "proto/document.h"
#include "proto/field.h"
#include "proto/names.h"
#include "proto/specification_extend.h"
#include "src/base/base.h"

#include <stdlib.h>
#include <string.h>

static const char *const shared_merge_words[] = {DIDI_MERGE_TABLE(TEXT_WORD) NULL};
static const char *const allocator_words[] = {DIDI_ALLOCATOR_TABLE(TEXT_WORD) NULL};
static const char *const weighting_words[] = {DIDI_WEIGHTING_TABLE(TEXT_WORD) NULL};
static const char *const objective_words[] = {DIDI_OBJECTIVE_TABLE(TEXT_WORD) NULL};
static const char *const optimizer_words[] = {DIDI_OPTIMIZER_TABLE(TEXT_WORD) NULL};
static const char *const dense_words[] = {DIDI_DENSE_TABLE(TEXT_WORD) NULL};
static const char *const own_tensors_words[] = {DIDI_OWN_TABLE(TEXT_WORD) NULL};
static const char *const missing_words[] = {DIDI_MISSING_TABLE(TEXT_WORD) NULL};
static const char *const output_dtype_words[] = {DIDI_PRECISION_TABLE(TEXT_WORD) NULL};

static bool specification_name_is_valid(const char *text)
{
    return name_is_plain_text(text, LIMIT_JOB_NAME_CHARACTERS);
}

static bool specification_glob_is_valid(const char *text)
{
    return text[0] != '\0' && name_is_plain_text(text, LIMIT_GLOB_CHARACTERS);
}

#define FIELD_MODEL                                                                                \
    FIELD_TEXT(name_is_model, "a relative path of A-Z, a-z, 0-9, '.', '_', '-' whose "             \
                              "components do not start with a dot; after it, '@' and a revision")

#define AT(member) .offset = offsetof(specification_task, member)
static const json_field task_fields[] = {
    {.key = "name",
     FIELD_TEXT(name_is_task, "1 to 128 of A-Z, a-z, 0-9, '.', '_', '-' and not start with a dot"),
     AT(name),
     .required = true},
    {.key = "model", FIELD_MODEL, AT(model), .required = true},
    {.key = "weight", FIELD_REAL(1e-6, 1e6), AT(weight)},
    {.key = "gram", FIELD_MODEL, AT(gram)},
    {.key = NULL},
};
#undef AT

static int tasks_read(const json_field *field, json_t *value, void *object, const char *pointer,
                      didi_error *error)
{
    specification *into = object;
    char child[DIDI_ERROR_SUBJECT_BYTES_MAX];
    size_t count = json_array_size(value);
    if (!json_is_array(value))
        return field_fail_type(field->key, "an array", value, pointer, error);
    if (count == 0 || count > LIMIT_TASKS) {
        return didi_fail(error, DIDI_INVALID, pointer, "%zu tasks; it must be 1 to %d", count,
                         LIMIT_TASKS);
    }
    into->tasks = memory_zeroed(count, sizeof *into->tasks);
    if (into->tasks == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, pointer, "no memory for %zu tasks", count);
    into->task_count = count;
    for (size_t task = 0; task < count; task++) {
        into->tasks[task].weight = SPECIFICATION_DEFAULT_TASK_WEIGHT;
        specification_task_pointer(into, task, NULL, child);
        int status = field_read_all(task_fields, json_array_get(value, task), &into->tasks[task],
                                    child, error);
        if (status != DIDI_OK)
            return status;
    }
    return DIDI_OK;
}

static json_t *tasks_write(const json_field *field, const void *object)
{
    const specification *from = object;
    json_t *value = json_array();
    (void)field;
    for (size_t task = 0; value != NULL && task < from->task_count; task++) {
        json_t *row = field_write_all(task_fields, &from->tasks[task]);
        if (json_array_append_new(value, row) != 0) {
            json_decref(value);
            value = NULL;
        }
    }
    return value;
}

static const field_kind tasks_kind = {tasks_read, tasks_write};

static bool method_is_valid(const char *text)
{
    return text[0] != '\0' && strlen(text) <= LIMIT_METHOD_NAME_BYTES &&
           strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789_") == strlen(text);
}

/* What the options mean, the method knows. */
static int method_options_read(const json_field *field, json_t *value, void *object,
                               const char *pointer, didi_error *error)
{
    specification *into = object;
    if (!json_is_object(value))
        return field_fail_type(field->key, "an object", value, pointer, error);
    if (json_object_size(value) > LIMIT_METHOD_OPTIONS)
        return didi_fail(error, DIDI_INVALID, pointer, "%zu options; at most %d are taken",
                         json_object_size(value), LIMIT_METHOD_OPTIONS);
    if (json_object_size(value) == 0)
        return DIDI_OK;
    free(into->method_options);
    into->method_options = json_dumps(value, JSON_COMPACT | JSON_SORT_KEYS);
    return into->method_options != NULL
               ? DIDI_OK
               : didi_fail(error, DIDI_NO_MEMORY, pointer, "no memory for options");
}

static json_t *method_options_write(const json_field *field, const void *object)
{
    const specification *from = object;
    (void)field;
    return from->method_options != NULL ? json_load_own(from->method_options) : json_null();
}

static const field_kind method_options_kind = {method_options_read, method_options_write};

/* Options of the default method are fields of their own. */
static bool is_of_another_method(const void *object)
{
    return strcmp(((const specification *)object)->method, SPECIFICATION_DEFAULT_METHOD) != 0;
}

static int label_compare(const void *left, const void *right)
{
    const specification_label *a = left;
    const specification_label *b = right;
    return strcmp(a->key, b->key);
}

static int label_read(specification_label *label, const char *key, json_t *value,
                      const char *pointer, didi_error *error)
{
    if (!name_is_label_key(key))
        return didi_fail(error, DIDI_INVALID, pointer,
                         "label \"%.100s\" must be 1 to 63 of A-Z, a-z, 0-9, '.', '_', '-' and "
                         "start with a letter or digit",
                         key);
    if (!json_is_string(value) || !name_is_label_value(json_string_value(value)))
        return didi_fail(error, DIDI_INVALID, pointer,
                         "label %s must be a string of at most 255 printable ASCII characters",
                         key);
    label->key = memory_string(key);
    label->value = memory_string(json_string_value(value));
    if (label->key == NULL || label->value == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, pointer, "no memory for a label");
    return DIDI_OK;
}

static int labels_read(const json_field *field, json_t *value, void *object, const char *pointer,
                       didi_error *error)
{
    specification *into = object;
    char child[DIDI_ERROR_SUBJECT_BYTES_MAX];
    const char *key;
    json_t *text;
    if (!json_is_object(value))
        return field_fail_type(field->key, "an object", value, pointer, error);
    if (json_object_size(value) > LIMIT_LABELS) {
        return didi_fail(error, DIDI_INVALID, pointer, "%zu labels; at most %d are taken",
                         json_object_size(value), LIMIT_LABELS);
    }
    into->labels = memory_zeroed(json_object_size(value), sizeof *into->labels);
    if (into->labels == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, pointer, "no memory for labels");
    json_object_foreach(value, key, text)
    {
        field_pointer(child, pointer, key);
        specification_label *label = &into->labels[into->label_count++];
        int status = label_read(label, key, text, child, error);
        if (status != DIDI_OK)
            return status;
    }
    qsort(into->labels, into->label_count, sizeof *into->labels, label_compare);
    return DIDI_OK;
}

static json_t *labels_write(const json_field *field, const void *object)
{
    const specification *from = object;
    json_t *value = json_object();
    (void)field;
    for (size_t label = 0; value != NULL && label < from->label_count; label++) {
        json_t *text = json_string(from->labels[label].value);
        if (json_object_set_new(value, from->labels[label].key, text) != 0) {
            json_decref(value);
            value = NULL;
        }
    }
    return value;
}

static const field_kind labels_kind = {labels_read, labels_write};

static bool surveys_not(const void *object)
{
    return !((const specification *)object)->survey;
}

static bool extends_none(const void *object)
{
    return ((const specification *)object)->extend.job == NULL;
}

#define AT(member) .offset = offsetof(specification, member)
#define NUMBER(member, name, field, standard, low, above, high, help)                              \
    {.key = (name), FIELD_REAL(low, high), AT(member), .above_lowest = (above)},
#define COUNT(member, name, field, standard, low, above, high, help)                               \
    {.key = (name), FIELD_INTEGER(low, high), AT(member)},
#define CHOICE(member) FIELD_CHOICE(member##_words), AT(member)
#define GLOBS(member)                                                                              \
    FIELD_LIST(LIMIT_GLOBS, specification_glob_is_valid,                                           \
               "1 to 512 characters, none of them control characters"),                            \
        AT(member)
#define OF_DEFAULT_METHOD .is_absent = is_of_another_method

static const json_field shared_fields[] = {
    {.key = "merge", CHOICE(shared_merge)},
    {.key = NULL},
};

static const json_field rank_fields[] = {
    {.key = "allocator", CHOICE(allocator)},
    {.key = "weighting", CHOICE(weighting)},
    DIDI_RANK_NUMBERS(NUMBER) DIDI_RANK_COUNTS(COUNT){.key = NULL},
};

static const json_field refine_fields[] = {
    {.key = "optimizer", CHOICE(optimizer)},
    DIDI_REFINE_COUNTS(COUNT) DIDI_REFINE_NUMBERS(NUMBER){.key = NULL},
};

static const json_field output_fields[] = {
    {.key = "dtype", CHOICE(output_dtype)},
    {.key = NULL},
};

static const json_field specification_fields[] = {
    {.key = "name",
     FIELD_TEXT(specification_name_is_valid,
                "at most 128 characters, none of them control characters"),
     AT(name)},
    {.key = "from_job",
     FIELD_TEXT(name_is_job, "the id of a job: 26 of 0-9 and a-z but i, l, o and u"),
     AT(from_job)},
    {.key = "base", FIELD_MODEL, AT(base)}, /* absent until it is inherited */
    {.key = "tasks", .kind = &tasks_kind},
    {.key = "method",
     FIELD_TEXT(method_is_valid, "the name of a method: a-z, 0-9 and _"),
     AT(method)},
    {.key = "method_options", .kind = &method_options_kind},
    {.key = "survey", .kind = &field_boolean, AT(survey), .is_absent = surveys_not},
    {.key = "budget", .kind = &field_budget, AT(budget)},
    {.key = "objective", CHOICE(objective), OF_DEFAULT_METHOD},
    {.key = "shared", FIELD_OBJECT(shared_fields), OF_DEFAULT_METHOD},
    {.key = "ranks", FIELD_OBJECT(rank_fields), OF_DEFAULT_METHOD},
    {.key = "refine", FIELD_OBJECT(refine_fields), OF_DEFAULT_METHOD},
    {.key = "include", GLOBS(include)},
    {.key = "exclude", GLOBS(exclude)},
    {.key = "own_tensors", CHOICE(own_tensors)},
    {.key = "missing", CHOICE(missing)},
    {.key = "dense", CHOICE(dense), OF_DEFAULT_METHOD},
    {.key = "dense_tensors", GLOBS(dense_tensors), OF_DEFAULT_METHOD},
    {.key = "low_rank_tensors", GLOBS(low_rank_tensors), OF_DEFAULT_METHOD},
    {.key = "output", FIELD_OBJECT(output_fields)},
    {.key = "seed", FIELD_INTEGER(0, LIMIT_SAFE_INTEGER), AT(seed)},
    {.key = "priority", FIELD_INTEGER(-LIMIT_PRIORITY, LIMIT_PRIORITY), AT(priority)},
    {.key = "labels", .kind = &labels_kind},
    {.key = "extend", FIELD_OBJECT(specification_extend_fields), .is_absent = extends_none},
    {.key = NULL},
};

static int specification_create(specification **ret_specification, didi_error *error)
{
    specification *made = memory_zeroed(1, sizeof *made);
    char *name = memory_string("");
    char *method = memory_string(SPECIFICATION_DEFAULT_METHOD);
    if (made == NULL || name == NULL || method == NULL) {
        free(made);
        free(name);
        free(method);
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "no memory for a specification");
    }
    made->name = name;
    made->method = method;
#define SET_NUMBER(member, name, field, standard, ...) made->member = (standard);
    DIDI_RANK_NUMBERS(SET_NUMBER)
    DIDI_RANK_COUNTS(SET_NUMBER)
    DIDI_REFINE_NUMBERS(SET_NUMBER)
#undef SET_NUMBER
#define SET_CHOICE(member, field, standard, ...) made->member = (standard);
    DIDI_CHOICES(SET_CHOICE)
#undef SET_CHOICE
    made->weighting = -1;    /* depends on the allocator */
    made->refine_steps = -1; /* depends on the optimizer */
    made->own_tensors = DIDI_OWN_KEEP;
    made->missing = DIDI_MISSING_AUTO;
    made->output_dtype = -1; /* depends on method and allocator */
    made->seed = SPECIFICATION_DEFAULT_SEED;
    made->priority = SPECIFICATION_DEFAULT_PRIORITY;
    *ret_specification = made;
    return DIDI_OK;
}

/* A field that only another method has is refused, and so is a default method without a budget,
 * except where budgets are surveyed. */
static int check_method(const specification *self, const json_t *document, didi_error *error)
{
    if (!is_of_another_method(self))
        return self->budget.value > 0 || self->survey
                   ? DIDI_OK
                   : didi_fail(error, DIDI_INVALID, "/budget", "budget is missing");
    for (const json_field *field = specification_fields; field->key != NULL; field++) {
        char pointer[DIDI_ERROR_SUBJECT_BYTES_MAX];
        if (field->is_absent != is_of_another_method ||
            json_object_get(document, field->key) == NULL)
            continue;
        field_pointer(pointer, "", field->key);
        return didi_fail(error, DIDI_INVALID, pointer,
                         "%s is an option of method \"%s\"; method \"%s\" does not have it",
                         field->key, SPECIFICATION_DEFAULT_METHOD, self->method);
    }
    return DIDI_OK;
}

static bool allocates_widths(const specification *self)
{
    return !is_of_another_method(self) && self->allocator != DIDI_ALLOCATOR_UNIFORM &&
           self->allocator != DIDI_ALLOCATOR_DIFFERENTIABLE;
}

int specification_read(json_t *document, size_t kept, specification **ret_specification,
                       didi_error *error)
{
    specification *made = NULL;
    int status = specification_create(&made, error);
    if (status != DIDI_OK)
        return status;
    made->kept = kept;
    status = field_read_all(specification_fields, document, made, "", error);
    if (status == DIDI_OK)
        status = check_method(made, document, error);
    if (status == DIDI_OK)
        status = specification_check(made, error);
    if (status != DIDI_OK) {
        specification_free(made);
        return status;
    }
    if (made->weighting < 0)
        made->weighting = made->allocator == DIDI_ALLOCATOR_DIFFERENTIABLE
                              ? SPECIFICATION_DEFAULT_WEIGHTING_LEARNED
                              : DIDI_WEIGHTING_ACCURACY;
    if (made->refine_steps < 0)
        made->refine_steps =
            made->optimizer == DIDI_OPTIMIZER_ALS ? DIDI_REFINE_STEPS : DIDI_REFINE_STEPS_ADAM;
    if (made->output_dtype < 0)
        made->output_dtype = allocates_widths(made) ? SPECIFICATION_DEFAULT_OUTPUT_DTYPE
                                                    : SPECIFICATION_DEFAULT_OUTPUT_DTYPE_PLAIN;
    if (made->extend.job != NULL && made->extend.add.count <= made->task_count)
        made->kept = made->task_count - made->extend.add.count;
    *ret_specification = made;
    return DIDI_OK;
}

int specification_parse(const char *text, size_t bytes, size_t bytes_max,
                        specification **ret_specification, didi_error *error)
{
    json_t *document = NULL;
    int status = document_parse(text, bytes, bytes_max, &document, error);
    if (status == DIDI_OK)
        status = specification_read(document, 0, ret_specification, error);
    json_decref(document);
    return status;
}

bool specification_extends(const specification *self)
{
    return self->extend.job != NULL && !self->extend.rebalance;
}

bool specification_counts_bytes(const specification *self)
{
    return self->budget.unit == DIDI_BUDGET_BYTES || self->budget.unit == DIDI_BUDGET_BYTES_RATIO ||
           self->output_dtype == DIDI_PRECISION_AUTO;
}

void specification_forget_extend(specification *self)
{
    specification_extend_clear(&self->extend);
    self->kept = 0;
}

void specification_free(specification *made)
{
    if (made == NULL)
        return;
    for (size_t task = 0; task < made->task_count; task++) {
        free(made->tasks[task].name);
        free(made->tasks[task].model);
        free(made->tasks[task].gram);
    }
    for (size_t label = 0; label < made->label_count; label++) {
        free(made->labels[label].key);
        free(made->labels[label].value);
    }
    field_texts_clear(&made->include);
    field_texts_clear(&made->exclude);
    field_texts_clear(&made->dense_tensors);
    field_texts_clear(&made->low_rank_tensors);
    specification_extend_clear(&made->extend);
    free(made->tasks);
    free(made->labels);
    free(made->name);
    free(made->base);
    free(made->from_job);
    free(made->method);
    free(made->method_options);
    free(made);
}

static int specification_render_value(json_t *value, char **ret_text, didi_error *error)
{
    char *text = value == NULL ? NULL : document_render(value);
    json_decref(value);
    if (text == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "no memory to write a specification");
    *ret_text = text;
    return DIDI_OK;
}

int specification_render(const specification *self, char **ret_text, didi_error *error)
{
    json_t *value = field_write_all(specification_fields, self);
    return specification_render_value(value, ret_text, error);
}

int specification_render_labels(const specification *self, char **ret_text, didi_error *error)
{
    return specification_render_value(labels_write(NULL, self), ret_text, error);
}
