/* SPDX-License-Identifier: Apache-2.0 */
/* What an operator writes of a hook (docs/hooks.md): checked when it is saved, then matched against
 * payloads. */
#pragma once

#include "daemon/hooks/signature.h"
#include "src/base/base.h"

#include <jansson.h>
#include <stdbool.h>

enum {
    RULES_MAX = 64,
    RULES_CONDITIONS_MAX = 32, /* in one rule */
    RULES_WORDS_MAX = 256,     /* of one_of */
    RULES_MAPS_MAX = 16,
    RULES_MAP_ENTRIES_MAX = 1024, /* in each map */
    RULES_TEXT_BYTES_MAX = 1024,  /* of a text in a condition, a map, a header's name */
    RULES_SOURCES_MAX = 64,       /* polled */
    RULES_SECRET_BYTES_MIN = 16,
    RULES_SECRET_BYTES_MAX = 1024,
};

/* Checks a whole document, its templates too: what stands in a specification is read as POST
 * /v1/jobs would. Errors: DIDI_INVALID with the JSON pointer as subject, DIDI_NO_MEMORY. */
int rules_check(json_t *hook, didi_error *error);

/* "mlflow", "huggingface", "wandb", "github" or "generic". */
const char *rules_kind(const json_t *hook);

/* The first rule all of whose conditions hold; NULL when there is none. `hook` passed
 * rules_check. */
const json_t *rules_match(const json_t *hook, json_t *payload, const hook_message *message);

/* What a rule says to do with this payload: {"rule", "rescan", "fetch", "submit", "register"}, of
 * the last three those that the rule has. The job gets the label `hook`. Errors: DIDI_INVALID with
 * the place in the rule as subject, DIDI_NO_MEMORY. */
int rules_expand(const json_t *hook, const json_t *rule, json_t *payload, json_t **ret_work,
                 didi_error *error);

/* True when `text` matches the pattern: '*' stands for any characters, '?' for one. */
bool rules_glob(const char *pattern, const char *text);
