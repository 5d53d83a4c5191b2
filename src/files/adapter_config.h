/* SPDX-License-Identifier: Apache-2.0 */
/* adapter_config.json of PEFT: what the tensors of a LoRA adapter do not say of themselves. */
#pragma once

#include "src/base/base.h"

#include <stdbool.h>
#include <stddef.h>

typedef struct adapter_config adapter_config;

enum { ADAPTER_PATTERN_BYTES_MAX = 1024, ADAPTER_RANK_MAX = 1 << 20 };

/* Parses the `bytes` bytes of a configuration. Pure: touches no file, so fuzzers call it. `subject`
 * is used in errors only. Members that change nothing for merging are passed over. Free with
 * adapter_config_free. Errors: DIDI_FORMAT; DIDI_INVALID (a variant of LoRA that is no sum of a
 * base and factors, named in the message); DIDI_NO_MEMORY. */
int adapter_config_parse(const char *json, size_t bytes, const char *subject,
                         adapter_config **ret_config, didi_error *error);
void adapter_config_free(adapter_config *config); /* NULL is fine */

/* Rank and scale of a module, by its full name: those of the first pattern that matches it, else of
 * all; the scale is alpha / r, with use_rslora alpha / sqrt(r). */
typedef struct adapter_scale {
    size_t rank;
    double scale;
} adapter_scale;
adapter_scale adapter_config_scale(const adapter_config *config, const char *module);

bool adapter_config_fan_in_fan_out(const adapter_config *config);
bool adapter_config_uses_dora(const adapter_config *config);
/* base_model_name_or_path, or NULL; lives as long as the configuration. */
const char *adapter_config_base(const adapter_config *config);
