/* SPDX-License-Identifier: Apache-2.0 */
/* Patterns are Python's regular expressions; what POSIX's say otherwise is translated or refused,
 * and so is what would let a small file take much memory or time. */
#include "src/files/adapter_config.h"

#include "src/base/base.h"

#include <jansson.h>
#include <math.h>
#include <regex.h>
#include <stdlib.h>
#include <string.h>

typedef struct pattern {
    regex_t compiled;
    double value;
} pattern;

typedef struct patterns {
    pattern *list;
    size_t count;
} patterns;

struct adapter_config {
    size_t rank;
    double alpha;
    bool rslora, fan_in_fan_out, dora;
    patterns ranks, alphas;
    char *base;
};

static void patterns_clear(patterns *self)
{
    for (size_t i = 0; i < self->count; i++)
        regfree(&self->list[i].compiled);
    free(self->list);
}

void adapter_config_free(adapter_config *self)
{
    if (self == NULL)
        return;
    patterns_clear(&self->ranks);
    patterns_clear(&self->alphas);
    free(self->base);
    free(self);
}

/* ---- patterns ---- */

static int fail_pattern(const char *subject, const char *member, const char *key, didi_error *error)
{
    return didi_fail(error, DIDI_FORMAT, subject,
                     "%s: '%.200s' is no pattern that can be matched; write the modules' names out",
                     member, key);
}

/* What follows a backslash; false where that is not known to mean the same. */
static bool translate_escape(char letter, bool in_set, char **out)
{
    static const char digit[] = "[0-9]";
    const char *known = in_set ? "._" : "wWsSb.-_^$*+?()[]|/\\";
    if (letter == 'd' && !in_set) {
        memcpy(*out, digit, sizeof digit - 1);
        *out += sizeof digit - 1;
        return true;
    }
    if (letter == '\0' || strchr(known, letter) == NULL)
        return false;
    if (!in_set)
        *(*out)++ = '\\';
    *(*out)++ = letter;
    return true;
}

/* Braces and nested pluses are refused since regcomp copies what is repeated, again and again. */
static bool is_refused(const char *at)
{
    bool repeats = at[0] != '\0' && strchr("*+?", at[0]) != NULL;
    bool twice = repeats && at[1] != '\0' && strchr("*+?", at[1]) != NULL;
    bool looks = at[0] == '(' && at[1] == '?' && at[2] != ':';
    return at[0] == '{' || twice || looks || (at[0] == ')' && at[1] == '+');
}

/* Writes the key as POSIX spells it, at most five characters for one. */
static bool translate(const char *key, char *out)
{
    bool in_set = false;
    for (; *key != '\0'; key++) {
        if (*key == '\\') {
            if (!translate_escape(*++key, in_set, &out))
                return false;
            continue;
        }
        if (!in_set && is_refused(key))
            return false;
        *out++ = *key;
        if (!in_set && key[0] == '(' && key[1] == '?')
            key += 2; /* groups that capture nothing are groups */
        else if (*key == '[' || *key == ']')
            in_set = *key == '[';
    }
    *out = '\0';
    return true;
}

static int compile(const char *subject, const char *member, const char *key, regex_t *ret_compiled,
                   didi_error *error)
{
    enum { ROOM = 5 };
    char translated[ROOM * ADAPTER_PATTERN_BYTES_MAX + 1];
    if (strlen(key) > ADAPTER_PATTERN_BYTES_MAX || !translate(key, translated))
        return fail_pattern(subject, member, key, error);
    char *whole = memory_format("^(.*\\.)?(%s)$", translated);
    if (whole == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, subject, "pattern of %s", member);
    int failed = regcomp(ret_compiled, whole, REG_EXTENDED | REG_NOSUB);
    free(whole);
    return failed == 0 ? DIDI_OK : fail_pattern(subject, member, key, error);
}

static bool is_rank(const json_t *value)
{
    return json_is_integer(value) && json_integer_value(value) > 0 &&
           json_integer_value(value) <= ADAPTER_RANK_MAX;
}

static bool is_alpha(const json_t *value)
{
    return json_is_number(value) && isfinite(json_number_value(value));
}

static int read_patterns(const json_t *tree, const char *subject, const char *member,
                         bool (*fits)(const json_t *value), patterns *out, didi_error *error)
{
    json_t *object = json_object_get(tree, member);
    if (object == NULL || json_is_null(object))
        return DIDI_OK;
    if (!json_is_object(object))
        return didi_fail(error, DIDI_FORMAT, subject, "%s is not an object", member);
    out->list = memory_zeroed(json_object_size(object), sizeof *out->list);
    if (out->list == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, subject, "patterns of %s", member);
    const char *key = NULL;
    json_t *value = NULL;
    json_object_foreach(object, key, value)
    {
        pattern *next = &out->list[out->count];
        if (!fits(value))
            return didi_fail(error, DIDI_FORMAT, subject, "%s: '%.200s' has a value out of range",
                             member, key);
        int status = compile(subject, member, key, &next->compiled, error);
        if (status != DIDI_OK)
            return status;
        next->value = json_number_value(value);
        out->count++;
    }
    return DIDI_OK;
}

static double find_value(const patterns *from, const char *module, double standard)
{
    for (size_t i = 0; i < from->count; i++)
        if (regexec(&from->list[i].compiled, module, 0, NULL, 0) == 0)
            return from->list[i].value;
    return standard;
}

/* ---- what is refused ---- */

static bool is_set(const json_t *value)
{
    if (json_is_object(value))
        return json_object_size(value) > 0;
    if (json_is_array(value))
        return json_array_size(value) > 0;
    return value != NULL && !json_is_null(value) && !json_is_false(value);
}

/* These change the base's weights when the adapter is put on them. */
static int check_start(const json_t *tree, const char *subject, didi_error *error)
{
    static const char *const refused[] = {"loftq", "pissa", "olora", "corda"};
    const char *start = json_string_value(json_object_get(tree, "init_lora_weights"));
    for (size_t i = 0; start != NULL && i < sizeof refused / sizeof *refused; i++)
        if (strncmp(start, refused[i], strlen(refused[i])) == 0)
            return didi_fail(error, DIDI_INVALID, subject,
                             "init_lora_weights '%s' changes the base's weights too; convert the "
                             "adapter to plain LoRA (save_pretrained with "
                             "path_initial_model_for_weight_conversion) or merge the full model",
                             refused[i]);
    return DIDI_OK;
}

static int check_variant(const json_t *tree, const char *subject, didi_error *error)
{
    static const char *const refused[] = {
        "lora_bias",     "layer_replication", "alora_invocation_tokens", "use_qalora",
        "use_bdlora",    "arrow_config",      "trainable_token_indices", "target_parameters",
        "velora_config", "kasa_config",       "monteclora_config"};
    const char *type = json_string_value(json_object_get(tree, "peft_type"));
    if (type == NULL || strcmp(type, "LORA") != 0)
        return didi_fail(error, DIDI_INVALID, subject,
                         "peft_type '%.64s' cannot be merged as an adapter, LORA can; merge the "
                         "full model",
                         type != NULL ? type : "");
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        if (is_set(json_object_get(tree, refused[i])))
            return didi_fail(error, DIDI_INVALID, subject,
                             "adapters with %s cannot be merged as such; merge the full model",
                             refused[i]);
    return check_start(tree, subject, error);
}

/* ---- reading ---- */

static int read_flag(const json_t *tree, const char *subject, const char *member, bool *ret_flag,
                     didi_error *error)
{
    const json_t *value = json_object_get(tree, member);
    if (value != NULL && !json_is_null(value) && !json_is_boolean(value))
        return didi_fail(error, DIDI_FORMAT, subject, "%s is neither true nor false", member);
    *ret_flag = json_is_true(value);
    return DIDI_OK;
}

static int read_numbers(const json_t *tree, const char *subject, adapter_config *out,
                        didi_error *error)
{
    enum { STANDARD = 8 };
    const json_t *rank = json_object_get(tree, "r");
    const json_t *alpha = json_object_get(tree, "lora_alpha");
    if (rank != NULL && !is_rank(rank))
        return didi_fail(error, DIDI_FORMAT, subject, "r must be an integer from 1 to %d",
                         ADAPTER_RANK_MAX);
    if (alpha != NULL && !is_alpha(alpha))
        return didi_fail(error, DIDI_FORMAT, subject, "lora_alpha must be a number");
    out->rank = rank != NULL ? (size_t)json_integer_value(rank) : STANDARD;
    out->alpha = alpha != NULL ? json_number_value(alpha) : STANDARD;
    int status = read_patterns(tree, subject, "rank_pattern", is_rank, &out->ranks, error);
    return status == DIDI_OK
               ? read_patterns(tree, subject, "alpha_pattern", is_alpha, &out->alphas, error)
               : status;
}

static int read_members(const json_t *tree, const char *subject, adapter_config *out,
                        didi_error *error)
{
    const char *base = json_string_value(json_object_get(tree, "base_model_name_or_path"));
    int status = check_variant(tree, subject, error);
    if (status == DIDI_OK)
        status = read_flag(tree, subject, "use_rslora", &out->rslora, error);
    if (status == DIDI_OK)
        status = read_flag(tree, subject, "fan_in_fan_out", &out->fan_in_fan_out, error);
    if (status == DIDI_OK)
        status = read_flag(tree, subject, "use_dora", &out->dora, error);
    if (status == DIDI_OK)
        status = read_numbers(tree, subject, out, error);
    if (status == DIDI_OK && base != NULL) {
        out->base = memory_string(base);
        if (out->base == NULL)
            status = didi_fail(error, DIDI_NO_MEMORY, subject, "name of a base");
    }
    return status;
}

int adapter_config_parse(const char *json, size_t bytes, const char *subject,
                         adapter_config **ret_config, didi_error *error)
{
    json_error_t why;
    bool refused = false;
    json_t *tree = json_load(json, bytes, JSON_REJECT_DUPLICATES, &why, &refused);
    adapter_config *self = memory_zeroed(1, sizeof *self);
    int status = DIDI_OK;
    if (self == NULL || refused)
        status = didi_fail(error, DIDI_NO_MEMORY, subject, "configuration of an adapter");
    else if (!json_is_object(tree))
        status = didi_fail(error, DIDI_FORMAT, subject, "not a JSON object: %s",
                           tree == NULL ? why.text : "another value");
    else
        status = read_members(tree, subject, self, error);
    json_decref(tree);
    if (status != DIDI_OK)
        adapter_config_free(self);
    else
        *ret_config = self;
    return status;
}

adapter_scale adapter_config_scale(const adapter_config *self, const char *module)
{
    double rank = find_value(&self->ranks, module, (double)self->rank);
    double alpha = find_value(&self->alphas, module, self->alpha);
    return (adapter_scale){(size_t)rank, alpha / (self->rslora ? sqrt(rank) : rank)};
}

bool adapter_config_fan_in_fan_out(const adapter_config *self)
{
    return self->fan_in_fan_out;
}

bool adapter_config_uses_dora(const adapter_config *self)
{
    return self->dora;
}

const char *adapter_config_base(const adapter_config *self)
{
    return self->base;
}
