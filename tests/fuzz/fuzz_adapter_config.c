/* SPDX-License-Identifier: Apache-2.0 */
/* Input: the text of an adapter_config.json. */
#include "src/files/adapter_config.h"

#include <jansson.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int holds)
{
    if (!holds)
        abort();
}

/* Any module has a rank and a scale that the numbers of the text can make. */
static void check_scales(const adapter_config *config)
{
    static const char *const modules[] = {"", "q", "model.layers.0.self_attn.q_proj",
                                          "a.a.a.a.a.a.a.a.a.a.a.a"};
    for (size_t i = 0; i < sizeof modules / sizeof *modules; i++) {
        adapter_scale found = adapter_config_scale(config, modules[i]);
        check(found.rank > 0 && found.rank <= ADAPTER_RANK_MAX && isfinite(found.scale));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    adapter_config *config = NULL;
    didi_error error = {0};
    int status = adapter_config_parse((const char *)data, size, "file", &config, &error);
    if (status != DIDI_OK) {
        check(status == error.status && error.message[0] != '\0' && config == NULL);
        return 0;
    }
    json_t *tree = json_loadb((const char *)data, size, 0, NULL);
    check(json_is_object(tree));
    json_decref(tree);
    check_scales(config);
    adapter_config_free(config);
    return 0;
}
