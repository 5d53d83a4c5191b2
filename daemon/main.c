/* SPDX-License-Identifier: Apache-2.0 */
/* didid: reads options and settings, then serves, or merges in the foreground (didid run). */
#include "daemon/base/base.h"
#include "daemon/foreground/foreground.h"
#include "daemon/serve.h"
#include "src/didi.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

typedef struct main_options {
    const char *config_path;
    bool check, help, version;
    option_settings settings; /* given as options, applied after the file */
} main_options;

#define AT(member) offsetof(main_options, member)
#define SETTING_ROW(key, ...) {#key, OPTION_SETTING, AT(settings)},
static const option_row option_rows[] = {
    CONFIG_TABLE(SETTING_ROW){"config", OPTION_TEXT, AT(config_path)},
    {"check_config", OPTION_FLAG, AT(check)},
    {"version", OPTION_FLAG, AT(version)},
    {"help", OPTION_FLAG, AT(help)},
    {NULL, OPTION_END, 0},
};

static void print_usage(FILE *stream)
{
    fputs("Usage: didid --state-dir DIR --models DIR [OPTION]...\n"
          "       didid run SPEC.json --models DIR --out DIR [OPTION]...\n"
          "Merge families of fine-tuned checkpoints, as a service or in the foreground.\n\n",
          stream);
    config_print_help(stream);
    fputs("  --config FILE            read settings from FILE first; options override it\n"
          "  --check-config           check the settings, print them, and exit\n"
          "  --version                print the version and exit\n"
          "  --help                   this text; didid run --help has the other\n\n"
          "Sizes may end in K, M, G or T. See didid(8).\n",
          stream);
}

static int settings_collect(const main_options *options, config *settings, didi_error *error)
{
    bool replaced = false;
    int status = config_init(settings, error);
    if (status == DIDI_OK && options->config_path != NULL)
        status = config_read_file(settings, options->config_path, error);
    for (size_t i = 0; i < options->settings.count && status == DIDI_OK; i++) {
        const char *key = options->settings.keys[i];
        if (strcmp(key, "models") == 0 && !replaced) {
            settings->model_count = 0;
            replaced = true;
        }
        status = config_set(settings, key, options->settings.values[i], error);
    }
    if (status == DIDI_OK)
        status = config_finish(settings, error);
    return status;
}

/* Every shard of every model is a descriptor, and the usual soft limit of 1024 is kept low for
 * programs that use select(). */
static void raise_descriptor_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

int main(int argc, char **argv)
{
    main_options options = {0};
    config settings = {0};
    didi_error error = {0};
    int code = 0;
    raise_descriptor_limit();
    if (argc > 1 && strcmp(argv[1], "run") == 0)
        return foreground_main(argc - 1, argv + 1);
    if (options_read(option_rows, &options, argc, argv, &error) != DIDI_OK)
        return options_refuse("didid", &error);
    if (options.help) {
        print_usage(stdout);
        return EXIT_SUCCESS;
    }
    if (options.version) {
        printf("didid %s\n", didi_version());
        return EXIT_SUCCESS;
    }
    if (settings_collect(&options, &settings, &error) != DIDI_OK) {
        fprintf(stderr, "didid: %s%s%s\n", error.subject, error.subject[0] != '\0' ? ": " : "",
                error.message);
        code = OPTIONS_EXIT_USAGE;
    } else if (options.check) {
        config_print(&settings, stdout);
    } else {
        code = serve(&settings);
    }
    config_clear(&settings);
    return code;
}
