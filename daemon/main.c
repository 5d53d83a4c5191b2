/* SPDX-License-Identifier: Apache-2.0 */
/* didid: reads options and settings, then serves, or merges in the foreground (didid run). */
#include "daemon/access/access.h"
#include "daemon/base/base.h"
#include "daemon/cluster/cluster.h"
#include "daemon/foreground/foreground.h"
#include "daemon/recovery/recovery.h"
#include "daemon/serve.h"
#include "daemon/worker/worker.h"
#include "src/didi.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

typedef struct main_options {
    const char *config_path;
    bool check, help, version, accept_database;
    option_settings settings; /* given as options, applied after the file */
} main_options;

#define AT(member) offsetof(main_options, member)
#define SETTING_ROW(key, ...) {#key, OPTION_SETTING, AT(settings)},
static const option_row option_rows[] = {
    CONFIG_TABLE(SETTING_ROW){"config", OPTION_TEXT, AT(config_path)},
    {"check_config", OPTION_FLAG, AT(check)},
    {"accept_database", OPTION_FLAG, AT(accept_database)},
    {"version", OPTION_FLAG, AT(version)},
    {"help", OPTION_FLAG, AT(help)},
    {NULL, OPTION_END, 0},
};

static void print_usage(FILE *stream)
{
    fputs("Usage: didid --state-dir DIR --models DIR [OPTION]...\n"
          "       didid run SPEC --models DIR --out DIR [OPTION]...\n"
          "       didid worker DIRECTORY --task I\n"
          "       didid recover|restore|doctor --state-dir DIR [FILE]\n"
          "       didid token create|list|revoke --state-dir DIR [OPTION]...\n"
          "Merge families of fine-tuned checkpoints, as a service or in the foreground.\n\n",
          stream);
    config_print_help(stream);
    fputs(
        "  --config FILE            read settings from FILE first; options override it\n"
        "  --check-config           check the settings, print them, and exit\n"
        "  --accept-database        start although the database was lost or is an older one; what\n"
        "                           it does not know is set aside, not removed\n"
        "  --version                print the version and exit\n"
        "  --help                   this text; didid run --help has the other\n\n"
        "Sizes may end in K, M, G or T. See didid(8).\n",
        stream);
}

static int settings_collect(const void *context, config *settings, didi_error *error)
{
    const main_options *options = context;
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

/* OpenBLAS chooses when it is loaded: begins again, once. */
static void take_better_kernel(char **argv)
{
    const char *name = didi_blas_better_kernel();
    if (name != NULL && setenv("OPENBLAS_CORETYPE", name, 1) == 0)
        (void)execv("/proc/self/exe", argv);
}

int main(int argc, char **argv)
{
    main_options options = {0};
    config settings = {0};
    didi_error error = {0};
    int code = 0;
    take_better_kernel(argv);
    address_space_prepare(argv);
    raise_descriptor_limit();
    if (argc > 1 && strcmp(argv[1], "run") == 0)
        return foreground_main(argc - 1, argv + 1);
    if (argc > 1 && strcmp(argv[1], "worker") == 0)
        return worker_main(argc, argv);
    if (argc > 1 && strcmp(argv[1], "supervise") == 0)
        return cluster_supervise(argc - 1, argv + 1);
    if (argc > 1 && recovery_is_tool(argv[1]))
        return recovery_main(argc - 1, argv + 1);
    if (argc > 1 && strcmp(argv[1], "token") == 0)
        return access_command(argc - 1, argv + 1);
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
        settings.accept_database = options.accept_database;
        const serve_source source = {.read = settings_collect, .context = &options};
        code = serve(&settings, &source);
    }
    config_clear(&settings);
    return code;
}
