/* SPDX-License-Identifier: Apache-2.0 */
/* didid: reads options and settings, then serves, or merges in the foreground (didid run). */
#include "daemon/base/base.h"
#include "daemon/foreground/foreground.h"
#include "daemon/serve.h"
#include "src/didi.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

enum { MAIN_EXIT_USAGE = 2, MAIN_OPTIONS_MAX = 64, MAIN_KEY_BYTES = 64 };

typedef struct main_options {
    const char *config_path;
    bool check, help, version;
    /* Settings given as options, applied after the file. */
    char keys[MAIN_OPTIONS_MAX][MAIN_KEY_BYTES];
    const char *values[MAIN_OPTIONS_MAX];
    size_t count;
} main_options;

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

static int usage_error(const char *what, const char *text)
{
    fprintf(stderr, "didid: %s%s; see didid --help\n", what, text);
    return MAIN_EXIT_USAGE;
}

/* "--state-dir" and "--state-dir=VALUE" are the key state_dir. Returns 0 or an exit code. */
static int option_split(const char *text, char ret_key[MAIN_KEY_BYTES], const char **ret_value)
{
    const char *equals = strchr(text, '=');
    size_t length = equals != NULL ? (size_t)(equals - text) : strlen(text);
    if (strncmp(text, "--", 2) != 0 || length < 4 || length - 2 >= MAIN_KEY_BYTES)
        return usage_error("unexpected argument ", text);
    for (size_t i = 2; i < length; i++)
        ret_key[i - 2] = text[i];
    ret_key[length - 2] = '\0';
    for (char *c = ret_key; *c != '\0'; c++) {
        if (*c == '_')
            return usage_error("unknown option ", text);
        if (*c == '-')
            *c = '_';
    }
    *ret_value = equals != NULL ? equals + 1 : NULL;
    return 0;
}

/* True if the option takes no value. */
static bool option_set_flag(main_options *options, const char *key)
{
    if (strcmp(key, "check_config") == 0)
        options->check = true;
    else if (strcmp(key, "help") == 0)
        options->help = true;
    else if (strcmp(key, "version") == 0)
        options->version = true;
    else
        return false;
    return true;
}

static int options_parse(main_options *options, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        char key[MAIN_KEY_BYTES];
        const char *value = NULL;
        int code = option_split(argv[i], key, &value);
        if (code != 0)
            return code;
        if (value == NULL && option_set_flag(options, key))
            continue;
        if (!config_has_key(key) && strcmp(key, "config") != 0)
            return usage_error("unknown option ", argv[i]);
        if (value == NULL && i + 1 == argc)
            return usage_error("a value is missing after ", argv[i]);
        if (value == NULL)
            value = argv[++i];
        if (strcmp(key, "config") == 0) {
            options->config_path = value;
        } else if (options->count < MAIN_OPTIONS_MAX) {
            memcpy(options->keys[options->count], key, sizeof key);
            options->values[options->count++] = value;
        } else {
            return usage_error("too many options at ", argv[i]);
        }
    }
    return 0;
}

static int settings_collect(const main_options *options, config *settings, didi_error *error)
{
    bool replaced = false;
    int status = config_init(settings, error);
    if (status == DIDI_OK && options->config_path != NULL)
        status = config_read_file(settings, options->config_path, error);
    for (size_t i = 0; i < options->count && status == DIDI_OK; i++) {
        if (strcmp(options->keys[i], "models") == 0 && !replaced) {
            settings->model_count = 0;
            replaced = true;
        }
        status = config_set(settings, options->keys[i], options->values[i], error);
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
    raise_descriptor_limit();
    if (argc > 1 && strcmp(argv[1], "run") == 0)
        return run_main(argc - 1, argv + 1);
    int code = options_parse(&options, argc, argv);
    if (code != 0)
        return code;
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
        code = MAIN_EXIT_USAGE;
    } else if (options.check) {
        config_print(&settings, stdout);
    } else {
        code = serve(&settings);
    }
    config_clear(&settings);
    return code;
}
