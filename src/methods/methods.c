/* SPDX-License-Identifier: Apache-2.0 */
/* The only list of methods. */
#include "src/methods/methods.h"

#include "src/base/base.h"

#include <stdio.h>
#include <string.h>

const didi_method *const didi_methods[] = {
    &didi_pursuit_method,
    &average_method,
    &task_arithmetic_method,
    &regmean_method,
    &fisher_method,
    &adamerging_method,
    NULL,
};

int method_find(const char *name, const didi_method **ret_method, didi_error *error)
{
    char known[512] = "";
    size_t used = 0;
    for (size_t i = 0; didi_methods[i] != NULL; i++) {
        const didi_method *method = didi_methods[i];
        bool named = name == NULL ? i == 0 : strcmp(method->name, name) == 0;
        if (named && method->needs != NULL)
            return didi_fail(error, DIDI_INVALID, "/method", "method '%s' needs %s", name,
                             method->needs);
        if (named) {
            *ret_method = method;
            return DIDI_OK;
        }
        if (method->needs == NULL && used < sizeof known)
            used += (size_t)snprintf(known + used, sizeof known - used, "%s%s",
                                     used == 0 ? "" : ", ", method->name);
    }
    return didi_fail(error, DIDI_INVALID, "/method", "there is no method '%.100s'; there are %s",
                     name, known);
}
