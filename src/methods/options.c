/* SPDX-License-Identifier: Apache-2.0 */
/* Options by table, from JSON. */
#include "src/methods/options.h"
#include "src/base/base.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static void set(void *self, const method_option *option, double value)
{
    char *at = (char *)self + option->offset;
    switch (option->kind) {
    case METHOD_NUMBER:
        memcpy(at, &value, sizeof value);
        break;
    case METHOD_INTEGER:
        memcpy(at, &(int64_t){(int64_t)value}, sizeof(int64_t));
        break;
    case METHOD_COUNT:
        memcpy(at, &(size_t){(size_t)value}, sizeof(size_t));
        break;
    case METHOD_FLAG:
        memcpy(at, &(bool){value != 0}, sizeof(bool));
        break;
    case METHOD_WORD:
        memcpy(at, &(unsigned){(unsigned)value}, sizeof(unsigned));
        break;
    }
}

double method_option_value(const method_option *option, const void *self)
{
    const char *at = (const char *)self + option->offset;
    switch (option->kind) {
    case METHOD_INTEGER:
        return (double)*(const int64_t *)(const void *)at;
    case METHOD_COUNT:
        return (double)*(const size_t *)(const void *)at;
    case METHOD_FLAG:
        return *(const bool *)at;
    case METHOD_WORD:
        return *(const unsigned *)(const void *)at;
    default:
        return *(const double *)(const void *)at;
    }
}

static const method_option *find(const method_option *options, const char *name)
{
    for (; options != NULL && options->name != NULL; options++)
        if (strcmp(options->name, name) == 0)
            return options;
    return NULL;
}

static int read_word(const method_option *option, const json_t *value, const char *subject,
                     void *self, didi_error *error)
{
    const char *word = json_string_value(value);
    char known[256] = "";
    for (size_t i = 0; option->words[i] != NULL; i++) {
        if (word != NULL && strcmp(option->words[i], word) == 0) {
            set(self, option, (double)i);
            return DIDI_OK;
        }
        text_list_add(known, sizeof known, "", option->words[i]);
    }
    return didi_fail(error, DIDI_INVALID, subject, "%s must be one of %s", option->name, known);
}

static int read_one(const method_option *option, const json_t *value, const char *subject,
                    void *self, didi_error *error)
{
    static const char *const kinds[] = {[METHOD_NUMBER] = "a number",
                                        [METHOD_INTEGER] = "an integer",
                                        [METHOD_COUNT] = "an integer",
                                        [METHOD_FLAG] = "true or false",
                                        [METHOD_WORD] = "a word"};
    if (option->kind == METHOD_WORD)
        return read_word(option, value, subject, self, error);
    bool flag = option->kind == METHOD_FLAG;
    double number = flag ? json_is_true(value) : json_number_value(value);
    bool whole = option->kind == METHOD_NUMBER || number == floor(number);
    if (!(flag ? json_is_boolean(value) : json_is_number(value)) || !whole)
        return didi_fail(error, DIDI_INVALID, subject, "%s must be %s", option->name,
                         kinds[option->kind]);
    int status = flag ? DIDI_OK
                      : method_check_number(subject, number, option->lowest, option->above_lowest,
                                            option->highest, error);
    if (status == DIDI_OK)
        set(self, option, number);
    return status;
}

static int read_all(const method_option *options, const char *method, json_t *given, void *self,
                    didi_error *error)
{
    const char *name = NULL;
    json_t *value = NULL;
    json_object_foreach(given, name, value)
    {
        const method_option *option = find(options, name);
        char subject[DIDI_ERROR_SUBJECT_BYTES_MAX];
        char known[256] = "";
        (void)snprintf(subject, sizeof subject, "/method_options/%.100s", name);
        if (option == NULL) {
            for (const method_option *o = options; o != NULL && o->name != NULL; o++)
                text_list_add(known, sizeof known, "'", o->name);
            return didi_fail(error, DIDI_INVALID, subject,
                             "method '%s' has no option '%.100s'; it has %s", method, name,
                             known[0] != '\0' ? known : "none");
        }
        int status = read_one(option, value, subject, self, error);
        if (status != DIDI_OK)
            return status;
    }
    return DIDI_OK;
}

int method_options_read(const method_option *options, const char *method, const char *text,
                        void *self, didi_error *error)
{
    for (const method_option *o = options; o != NULL && o->name != NULL; o++)
        set(self, o, o->standard);
    if (text == NULL)
        return DIDI_OK;
    bool refused = false;
    json_t *given = json_load(text, strlen(text), JSON_REJECT_DUPLICATES, NULL, &refused);
    if (refused)
        return didi_fail(error, DIDI_NO_MEMORY, "/method_options", "options of a method");
    int status = json_is_object(given)
                     ? read_all(options, method, given, self, error)
                     : didi_fail(error, DIDI_FORMAT, "/method_options", "it is not a JSON object");
    json_decref(given);
    return status;
}

int method_check_number(const char *field, double value, double low, bool open_low, double high,
                        didi_error *error)
{
    bool above = open_low ? value > low : value >= low;
    if (isfinite(value) && above && value <= high)
        return DIDI_OK;
    return didi_fail(error, DIDI_INVALID, field, "%s is %g and must be %s %g and at most %g", field,
                     value, open_low ? "above" : "at least", low, high);
}
