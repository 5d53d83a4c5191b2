/* SPDX-License-Identifier: Apache-2.0 */
/* The last line of `didid run`: figures of the manifest. */
#include "daemon/foreground/summary.h"

#include "src/base/base.h"
#include "src/package/package.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static double number(const json_t *object, const char *key)
{
    return json_number_value(json_object_get(object, key));
}

static void print_budget(const json_t *budget)
{
    const char *unit = json_string_value(json_object_get(budget, "unit"));
    const char *dtype = json_string_value(json_object_get(budget, "dtype"));
    bool automatic = dtype != NULL && strcmp(dtype, "auto") == 0;
    if (unit == NULL)
        return;
    if (strcmp(unit, "parameters") == 0 && !automatic) {
        printf("parameters %.4fx, ", number(budget, "parameters"));
        return;
    }
    printf("%.0f bytes, ", number(budget, "bytes"));
    if (strcmp(unit, "parameters") == 0)
        printf("%.4fx of a 16-bit model, ", number(budget, "bytes_ratio_16bit"));
    else if (strcmp(unit, "bytes_ratio") == 0)
        printf("%.4fx of the base's, ", number(budget, "bytes_ratio"));
}

void run_summary_print(const char *out, int parent_fd, const char *name, double seconds)
{
    didi_error ignored = {0};
    json_t *manifest = NULL;
    int fd = -1;
    printf("%s: ", out);
    if (file_open_directory(parent_fd, name, 0, &fd, &ignored) == DIDI_OK) {
        if (manifest_file_read(fd, &manifest, &ignored) == DIDI_OK) {
            print_budget(json_object_get(manifest, "budget"));
            printf("relative error %.4g, ", number(json_object_get(manifest, "error"), "relative"));
        }
        close(fd);
    }
    json_decref(manifest);
    printf("%.1f s\n", seconds);
}
