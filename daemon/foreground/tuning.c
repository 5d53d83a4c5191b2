/* SPDX-License-Identifier: Apache-2.0 */
/* Values of an option and what they scored. */
#include "daemon/foreground/tuning.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct tuning {
    char *option;
    json_t *values[TUNING_VALUES_MAX];
    json_t *means[TUNING_VALUES_MAX]; /* of the scores; NULL: not noted */
    size_t count, best;
    json_t *scores; /* of the best; NULL: none was noted */
};

static int fail_memory(didi_error *error)
{
    return didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
}

/* A number, true, "word", or a word without its quotes. */
static int add_value(tuning *self, const char *text, didi_error *error)
{
    bool no_memory = false;
    if (text[0] == '\0')
        return didi_fail(error, DIDI_INVALID, NULL, "--tune has an empty value");
    if (self->count == TUNING_VALUES_MAX)
        return didi_fail(error, DIDI_INVALID, NULL, "--tune takes at most %d values",
                         TUNING_VALUES_MAX);
    json_t *value = json_load(text, strlen(text), JSON_DECODE_ANY, NULL, &no_memory);
    if (value == NULL && !no_memory)
        value = json_string(text);
    if (value == NULL)
        return no_memory ? fail_memory(error)
                         : didi_fail(error, DIDI_INVALID, NULL, "--tune: a value is not UTF-8");
    self->values[self->count++] = value;
    for (size_t i = 0; i + 1 < self->count; i++)
        if (json_equal(self->values[i], value))
            return didi_fail(error, DIDI_INVALID, NULL, "--tune names %s twice", text);
    return DIDI_OK;
}

static int read_words(tuning *self, char *text, didi_error *error)
{
    char *equals = strchr(text, '=');
    if (equals == NULL || equals == text)
        return didi_fail(error, DIDI_INVALID, NULL, "--tune takes OPTION=VALUE,VALUE,...");
    *equals = '\0';
    self->option = memory_string(text);
    if (self->option == NULL)
        return fail_memory(error);
    int status = DIDI_OK;
    for (char *at = equals + 1; at != NULL && status == DIDI_OK;) {
        char *comma = strchr(at, ',');
        if (comma != NULL)
            *comma++ = '\0';
        status = add_value(self, at, error);
        at = comma;
    }
    return status;
}

int tuning_read(const char *text, tuning **ret_tuning, didi_error *error)
{
    tuning *self = memory_zeroed(1, sizeof *self);
    char *copy = memory_string(text);
    int status = self != NULL && copy != NULL ? read_words(self, copy, error) : fail_memory(error);
    free(copy);
    if (status == DIDI_OK)
        *ret_tuning = self;
    else
        tuning_free(self);
    return status;
}

void tuning_free(tuning *self)
{
    if (self == NULL)
        return;
    for (size_t i = 0; i < self->count; i++) {
        json_decref(self->values[i]);
        json_decref(self->means[i]);
    }
    json_decref(self->scores);
    free(self->option);
    free(self);
}

size_t tuning_count(const tuning *self)
{
    return self->count;
}

int tuning_apply(const tuning *self, size_t index, specification *wanted, didi_error *error)
{
    assert(index < self->count);
    json_t *options =
        wanted->method_options != NULL ? json_load_own(wanted->method_options) : json_object();
    char *text = NULL;
    if (options != NULL && json_object_set(options, self->option, self->values[index]) == 0)
        text = json_dumps(options, JSON_COMPACT);
    json_decref(options);
    if (text == NULL)
        return fail_memory(error);
    free(wanted->method_options);
    wanted->method_options = text;
    return DIDI_OK;
}

void tuning_name(const tuning *self, size_t index, char ret_text[TUNING_TEXT_BYTES])
{
    assert(index < self->count);
    char *value = json_dumps(self->values[index], JSON_ENCODE_ANY | JSON_REAL_PRECISION(12));
    char text[TUNING_TEXT_BYTES];
    snprintf(text, sizeof text, "%.100s=%.100s", self->option, value != NULL ? value : "");
    text_copy_printable(ret_text, TUNING_TEXT_BYTES, text);
    free(value);
}

/* What values are compared by. */
static double worth(const json_t *means)
{
    const json_t *kept = json_object_get(means, "kept");
    return json_number_value(json_is_number(kept) ? kept : json_object_get(means, "score"));
}

bool tuning_note(tuning *self, size_t index, json_t *scores)
{
    assert(index < self->count && self->means[index] == NULL);
    json_t *means = json_object_get(scores, "mean");
    self->means[index] = json_incref(means);
    if (self->scores != NULL && !(worth(means) > worth(self->means[self->best])))
        return false;
    json_decref(self->scores);
    self->scores = json_incref(scores);
    self->best = index;
    return true;
}

size_t tuning_best(const tuning *self)
{
    assert(self->scores != NULL);
    return self->best;
}

json_t *tuning_scores(const tuning *self)
{
    assert(self->scores != NULL);
    return self->scores;
}

json_t *tuning_json(const tuning *self, const char *split)
{
    json_t *values = json_array();
    bool done = values != NULL;
    for (size_t i = 0; i < self->count && done; i++) {
        json_t *row = json_pack("{s:O,s:O*,s:O*}", "value", self->values[i], "score",
                                json_object_get(self->means[i], "score"), "kept",
                                json_object_get(self->means[i], "kept"));
        done = row != NULL && json_array_append_new(values, row) == 0;
    }
    if (!done) {
        json_decref(values);
        return NULL;
    }
    return json_pack("{s:s,s:o,s:O,s:s}", "option", self->option, "values", values, "chosen",
                     self->values[tuning_best(self)], "split", split);
}
