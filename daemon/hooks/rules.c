/* SPDX-License-Identifier: Apache-2.0 */
/* Rules of hooks: checking, matching, expanding. */
#include "daemon/hooks/rules.h"

#include "daemon/hooks/template.h"
#include "proto/proto.h"

#include <stdio.h>
#include <string.h>

static const char *const kinds[] = {"mlflow", "huggingface", "wandb", "github", "generic", NULL};

/* ---- checking ---- */

typedef struct checker {
    const json_t *hook;
    didi_error *error;
} checker;

/* A member that an object may have. */
typedef struct member {
    const char *key;
    bool required;
    int (*check)(const checker *self, json_t *value, const char *at);
} member;

static int refuse(const checker *self, const char *at, const char *why)
{
    return didi_fail(self->error, DIDI_INVALID, at, "%s", why);
}

static int check_object(const checker *self, json_t *value, const char *at, const member *members)
{
    char child[DIDI_ERROR_SUBJECT_BYTES_MAX];
    const char *key;
    json_t *one;
    if (!json_is_object(value))
        return field_fail_type(at, "an object", value, at, self->error);
    json_object_foreach(value, key, one)
    {
        const member *found = members;
        field_pointer(child, at, key);
        while (found->key != NULL && strcmp(found->key, key) != 0)
            found++;
        if (found->key == NULL)
            return didi_fail(self->error, DIDI_INVALID, child, "unknown field '%.64s'", key);
        int status = found->check(self, one, child);
        if (status != DIDI_OK)
            return status;
    }
    for (const member *wanted = members; wanted->key != NULL; wanted++)
        if (wanted->required && json_object_get(value, wanted->key) == NULL) {
            field_pointer(child, at, wanted->key);
            return didi_fail(self->error, DIDI_INVALID, child, "%s is missing", wanted->key);
        }
    return DIDI_OK;
}

static int check_list(const checker *self, json_t *value, const char *at, size_t most,
                      int (*check)(const checker *self, json_t *value, const char *at))
{
    char child[DIDI_ERROR_SUBJECT_BYTES_MAX];
    if (!json_is_array(value))
        return field_fail_type(at, "an array", value, at, self->error);
    if (json_array_size(value) > most)
        return didi_fail(self->error, DIDI_INVALID, at, "%zu are too many; at most %zu are taken",
                         json_array_size(value), most);
    for (size_t i = 0; i < json_array_size(value); i++) {
        field_pointer_index(child, at, i);
        int status = check(self, json_array_get(value, i), child);
        if (status != DIDI_OK)
            return status;
    }
    return DIDI_OK;
}

static int check_text(const checker *self, json_t *value, const char *at)
{
    if (!json_is_string(value))
        return field_fail_type(at, "a string", value, at, self->error);
    return name_is_plain_text(json_string_value(value), RULES_TEXT_BYTES_MAX)
               ? DIDI_OK
               : refuse(self, at, "must be at most 1024 characters, none of them control ones");
}

static int check_boolean(const checker *self, json_t *value, const char *at)
{
    return json_is_boolean(value) ? DIDI_OK
                                  : field_fail_type(at, "true or false", value, at, self->error);
}

static int check_scalar(const checker *self, json_t *value, const char *at)
{
    if (json_is_string(value))
        return check_text(self, value, at);
    return json_is_object(value) || json_is_array(value)
               ? field_fail_type(at, "a string, number, true, false or null", value, at,
                                 self->error)
               : DIDI_OK;
}

static int check_words(const checker *self, json_t *value, const char *at)
{
    return check_list(self, value, at, RULES_WORDS_MAX, check_scalar);
}

static int check_pointer(const checker *self, json_t *value, const char *at)
{
    int status = check_text(self, value, at);
    if (status == DIDI_OK && !pointer_is_valid(json_string_value(value)))
        status = refuse(self, at, "must be a JSON pointer, as /data/name");
    return status;
}

static int check_pointers(const checker *self, json_t *value, const char *at)
{
    const char *kind = rules_kind(self->hook);
    if (strcmp(kind, "mlflow") == 0 || strcmp(kind, "huggingface") == 0)
        return refuse(self, at, "deliveries of this kind have an identity of their own");
    return check_list(self, value, at, RULES_CONDITIONS_MAX, check_pointer);
}

static int check_header(const checker *self, json_t *value, const char *at)
{
    const char *text = json_string_value(value);
    size_t length = text == NULL ? 0
                                 : strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvw"
                                                "xyz0123456789-_");
    return length > 0 && length <= LIMIT_LABEL_KEY_BYTES && text[length] == '\0'
               ? DIDI_OK
               : refuse(self, at, "must be the name of a header");
}

static int check_word(const checker *self, json_t *value, const char *at, const char *const *words,
                      const char *why)
{
    for (size_t i = 0; json_is_string(value) && words[i] != NULL; i++)
        if (strcmp(words[i], json_string_value(value)) == 0)
            return DIDI_OK;
    return refuse(self, at, why);
}

static int check_kind(const checker *self, json_t *value, const char *at)
{
    return check_word(self, value, at, kinds,
                      "must be mlflow, huggingface, wandb, github or generic");
}

static int check_encoding(const checker *self, json_t *value, const char *at)
{
    static const char *const words[] = {"hex", "base64", NULL};
    return check_word(self, value, at, words, "must be hex or base64");
}

static int check_signed(const checker *self, json_t *value, const char *at)
{
    static const char *const words[] = {"body", "timestamp.body", "id.timestamp.body", NULL};
    return check_word(self, value, at, words, "must be body, timestamp.body or id.timestamp.body");
}

static int check_verify(const checker *self, json_t *value, const char *at)
{
    static const member members[] = {{"signature_header", true, check_header},
                                     {"id_header", false, check_header},
                                     {"timestamp_header", false, check_header},
                                     {"prefix", false, check_text},
                                     {"encoding", false, check_encoding},
                                     {"signed", false, check_signed},
                                     {NULL, false, NULL}};
    int status = check_object(self, value, at, members);
    if (status != DIDI_OK)
        return status;
    const char *order = json_string_value(json_object_get(value, "signed"));
    bool dated = order != NULL && strcmp(order, "body") != 0;
    bool named = order != NULL && strcmp(order, "id.timestamp.body") == 0;
    if (dated != (json_object_get(value, "timestamp_header") != NULL))
        return refuse(self, at,
                      "timestamp_header goes with signed timestamp.body or "
                      "id.timestamp.body, and they with it");
    if (named && json_object_get(value, "id_header") == NULL)
        return refuse(self, at, "id.timestamp.body needs an id_header");
    return DIDI_OK;
}

static int check_map(const checker *self, json_t *value, const char *at)
{
    char child[DIDI_ERROR_SUBJECT_BYTES_MAX];
    const char *key;
    json_t *one;
    if (!json_is_object(value) || json_object_size(value) > RULES_MAP_ENTRIES_MAX)
        return refuse(self, at, "must be an object of at most 1024 strings");
    json_object_foreach(value, key, one)
    {
        field_pointer(child, at, key);
        int status = check_text(self, one, child);
        if (status != DIDI_OK)
            return status;
    }
    return DIDI_OK;
}

static int check_maps(const checker *self, json_t *value, const char *at)
{
    char child[DIDI_ERROR_SUBJECT_BYTES_MAX];
    const char *key;
    json_t *one;
    if (!json_is_object(value) || json_object_size(value) > RULES_MAPS_MAX)
        return refuse(self, at, "must be an object of at most 16 maps");
    json_object_foreach(value, key, one)
    {
        field_pointer(child, at, key);
        int status = name_is_label_key(key) ? check_map(self, one, child)
                                            : refuse(self, child, "is no name for a map");
        if (status != DIDI_OK)
            return status;
    }
    return DIDI_OK;
}

static int check_condition(const checker *self, json_t *value, const char *at)
{
    static const member members[] = {
        {"at", false, check_pointer},     {"header", false, check_header},
        {"equals", false, check_scalar},  {"one_of", false, check_words},
        {"prefix", false, check_text},    {"glob", false, check_text},
        {"exists", false, check_boolean}, {NULL, false, NULL}};
    int status = check_object(self, value, at, members);
    if (status != DIDI_OK)
        return status;
    bool in_payload = json_object_get(value, "at") != NULL;
    bool in_header = json_object_get(value, "header") != NULL;
    return in_payload != in_header && json_object_size(value) == 2
               ? DIDI_OK
               : refuse(self, at,
                        "must have one of at and header, and one of equals, one_of, "
                        "prefix, glob and exists");
}

static int check_conditions(const checker *self, json_t *value, const char *at)
{
    return check_list(self, value, at, RULES_CONDITIONS_MAX, check_condition);
}

/* Errors of `inner` point into the value at `at`. */
static int point_below(const checker *self, const char *at, const didi_error *inner)
{
    char whole[DIDI_ERROR_SUBJECT_BYTES_MAX];
    (void)snprintf(whole, sizeof whole, "%.128s%.380s", at,
                   inner->subject[0] == '/' ? inner->subject : "");
    return didi_fail(self->error, inner->status, whole, "%s", inner->message);
}

static int check_template(const checker *self, json_t *value, const char *at, json_t **ret_sample)
{
    didi_error inner = {0};
    if (!json_is_object(value))
        return field_fail_type(at, "an object", value, at, self->error);
    return template_expand(value, NULL, json_object_get(self->hook, "maps"), ret_sample, &inner) ==
                   DIDI_OK
               ? DIDI_OK
               : point_below(self, at, &inner);
}

/* What stands in for a payload's values is not the name of a job: that is known on delivery. */
static int check_submit(const checker *self, json_t *value, const char *at)
{
    json_t *sample = NULL;
    specification *made = NULL;
    const char *job = NULL;
    didi_error inner = {0};
    int status = check_template(self, value, at, &sample);
    if (status != DIDI_OK)
        return status;
    status = extension_request_is(sample) ? extension_request_job(sample, &job, &inner)
                                          : specification_read(sample, 0, &made, &inner);
    json_decref(sample);
    specification_free(made);
    return status == DIDI_OK ? DIDI_OK : point_below(self, at, &inner);
}

static int check_pair(const checker *self, json_t *value, const char *at, const member *members)
{
    json_t *sample = NULL;
    int status = check_template(self, value, at, &sample);
    json_decref(sample);
    return status == DIDI_OK ? check_object(self, value, at, members) : status;
}

static int check_fetch(const checker *self, json_t *value, const char *at)
{
    static const member members[] = {
        {"name", true, check_text}, {"source", true, check_text}, {NULL, false, NULL}};
    return check_pair(self, value, at, members);
}

static int check_register(const checker *self, json_t *value, const char *at)
{
    static const member members[] = {
        {"model", true, check_text}, {"experiment", false, check_text}, {NULL, false, NULL}};
    return check_pair(self, value, at, members);
}

static int check_label(const checker *self, json_t *value, const char *at)
{
    return json_is_string(value) && name_is_label_key(json_string_value(value))
               ? DIDI_OK
               : refuse(self, at,
                        "must be 1 to 63 of A-Z a-z 0-9 . _ -, begun by a letter or "
                        "digit");
}

static bool asks_survey(const json_t *submit)
{
    return json_is_true(json_object_get(submit, "survey"));
}

static int check_rule(const checker *self, json_t *value, const char *at)
{
    static const member members[] = {{"name", true, check_label},
                                     {"when", true, check_conditions},
                                     {"rescan", false, check_boolean},
                                     {"fetch", false, check_fetch},
                                     {"submit", false, check_submit},
                                     {"register", false, check_register},
                                     {NULL, false, NULL}};
    int status = check_object(self, value, at, members);
    if (status != DIDI_OK)
        return status;
    bool submits = json_object_get(value, "submit") != NULL;
    if (!submits && json_object_get(value, "register") != NULL)
        return refuse(self, at,
                      "register goes with submit: it is the job's result that is "
                      "registered");
    if (json_object_get(value, "register") != NULL && asks_survey(json_object_get(value, "submit")))
        return refuse(self, at, "a survey has no model to register");
    return submits || json_object_get(value, "fetch") != NULL ||
                   json_is_true(json_object_get(value, "rescan"))
               ? DIDI_OK
               : refuse(self, at, "must have submit, fetch or rescan");
}

static int check_rules(const checker *self, json_t *value, const char *at)
{
    return check_list(self, value, at, RULES_MAX, check_rule);
}

static int check_minutes(const checker *self, json_t *value, const char *at)
{
    return json_is_integer(value) && json_integer_value(value) >= 1 &&
                   json_integer_value(value) <= 10080
               ? DIDI_OK
               : refuse(self, at, "must be a whole number of minutes from 1 to 10080");
}

static int check_model(const checker *self, json_t *value, const char *at)
{
    return json_is_string(value) && name_is_model(json_string_value(value)) &&
                   strchr(json_string_value(value), '@') == NULL
               ? DIDI_OK
               : refuse(self, at, "must be a repository, as ORG/NAME");
}

static int check_source(const checker *self, json_t *value, const char *at)
{
    static const member repository[] = {
        {"repository", true, check_model}, {"ref", true, check_text}, {NULL, false, NULL}};
    static const member alias[] = {
        {"model", true, check_text}, {"alias", true, check_text}, {NULL, false, NULL}};
    const char *kind = rules_kind(self->hook);
    return check_object(self, value, at, strcmp(kind, "mlflow") == 0 ? alias : repository);
}

static int check_sources(const checker *self, json_t *value, const char *at)
{
    return check_list(self, value, at, RULES_SOURCES_MAX, check_source);
}

static int check_poll(const checker *self, json_t *value, const char *at)
{
    static const member members[] = {
        {"minutes", true, check_minutes}, {"sources", true, check_sources}, {NULL, false, NULL}};
    const char *kind = rules_kind(self->hook);
    if (strcmp(kind, "mlflow") != 0 && strcmp(kind, "huggingface") != 0)
        return refuse(self, at, "only hooks of mlflow and huggingface poll");
    return check_object(self, value, at, members);
}

int rules_check(json_t *hook, didi_error *error)
{
    static const member members[] = {{"kind", true, check_kind},
                                     {"description", false, check_text},
                                     {"enabled", false, check_boolean},
                                     {"verify", false, check_verify},
                                     {"dedupe", false, check_pointers},
                                     {"maps", false, check_maps},
                                     {"rules", true, check_rules},
                                     {"poll", false, check_poll},
                                     {NULL, false, NULL}};
    const checker self = {.hook = hook, .error = error};
    int status = check_object(&self, hook, "", members);
    if (status != DIDI_OK)
        return status;
    bool generic = strcmp(rules_kind(hook), "generic") == 0;
    if (generic != (json_object_get(hook, "verify") != NULL))
        return refuse(&self, "/verify", "verify goes with kind generic, and it with verify");
    return DIDI_OK;
}

const char *rules_kind(const json_t *hook)
{
    const char *kind = json_string_value(json_object_get(hook, "kind"));
    return kind != NULL ? kind : "";
}

/* ---- matching ---- */

bool rules_glob(const char *pattern, const char *text)
{
    const char *star = NULL;
    const char *resume = NULL;
    while (*text != '\0') {
        if (*pattern == '*') {
            star = pattern++;
            resume = text;
        } else if (*pattern != '\0' && (*pattern == '?' || *pattern == *text)) {
            pattern++;
            text++;
        } else if (star != NULL) {
            pattern = star + 1;
            text = ++resume;
        } else {
            return false;
        }
    }
    while (*pattern == '*')
        pattern++;
    return *pattern == '\0';
}

static bool value_holds(const json_t *condition, const json_t *value)
{
    const json_t *equals = json_object_get(condition, "equals");
    const json_t *words = json_object_get(condition, "one_of");
    const json_t *exists = json_object_get(condition, "exists");
    const char *prefix = json_string_value(json_object_get(condition, "prefix"));
    const char *glob = json_string_value(json_object_get(condition, "glob"));
    const char *text = json_string_value(value);
    if (exists != NULL)
        return json_is_true(exists) == (value != NULL);
    if (equals != NULL)
        return value != NULL && json_equal(equals, value) != 0;
    if (prefix != NULL)
        return text != NULL && strncmp(text, prefix, strlen(prefix)) == 0;
    if (glob != NULL)
        return text != NULL && strlen(text) <= TEMPLATE_VALUE_BYTES_MAX && rules_glob(glob, text);
    for (size_t i = 0; i < json_array_size(words); i++)
        if (value != NULL && json_equal(json_array_get(words, i), value) != 0)
            return true;
    return false;
}

static bool condition_holds(const json_t *condition, json_t *payload, const hook_message *message)
{
    const char *header = json_string_value(json_object_get(condition, "header"));
    const char *pointer = json_string_value(json_object_get(condition, "at"));
    if (header == NULL)
        return value_holds(condition, pointer_find(payload, pointer));
    const char *text = message->header(message->context, header);
    json_t *value = text != NULL ? json_string(text) : NULL;
    bool holds = value_holds(condition, value);
    json_decref(value);
    return holds;
}

const json_t *rules_match(const json_t *hook, json_t *payload, const hook_message *message)
{
    const json_t *rules = json_object_get(hook, "rules");
    for (size_t i = 0; i < json_array_size(rules); i++) {
        const json_t *rule = json_array_get(rules, i);
        const json_t *when = json_object_get(rule, "when");
        bool holds = true;
        for (size_t c = 0; holds && c < json_array_size(when); c++)
            holds = condition_holds(json_array_get(when, c), payload, message);
        if (holds)
            return rule;
    }
    return NULL;
}

/* ---- expanding ---- */

int rules_expand(const json_t *hook, const json_t *rule, json_t *payload, json_t **ret_work,
                 didi_error *error)
{
    static const char *const parts[] = {"fetch", "submit", "register"};
    bool rescan = json_is_true(json_object_get(rule, "rescan"));
    json_t *work =
        json_pack("{s:O, s:b}", "rule", json_object_get(rule, "name"), "rescan", (int)rescan);
    int status =
        work != NULL ? DIDI_OK : didi_fail(error, DIDI_NO_MEMORY, NULL, "no memory for a delivery");
    for (size_t i = 0; status == DIDI_OK && i < sizeof parts / sizeof *parts; i++) {
        json_t *made = NULL;
        didi_error inner = {0};
        json_t *part = json_object_get(rule, parts[i]);
        char at[DIDI_ERROR_SUBJECT_BYTES_MAX];
        if (part == NULL)
            continue;
        status = template_expand(part, payload, json_object_get(hook, "maps"), &made, &inner);
        (void)snprintf(at, sizeof at, "/%s%.480s", parts[i], inner.subject);
        if (status != DIDI_OK)
            didi_fail(error, status, at, "%s", inner.message);
        else if (json_object_set_new(work, parts[i], made) != 0)
            status = didi_fail(error, DIDI_NO_MEMORY, NULL, "no memory for a delivery");
    }
    if (status == DIDI_OK)
        *ret_work = work;
    else
        json_decref(work);
    return status;
}
