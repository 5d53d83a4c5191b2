/* SPDX-License-Identifier: Apache-2.0 */
/* The command lines of didid recover, didid restore and didid doctor. */
#include "daemon/recovery/recovery.h"
#include "daemon/store/store.h"
#include "src/base/base.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct tool_options {
    const char *state_dir, *config_path;
    option_list files;
    option_settings settings; /* of S3, for recover */
    bool json, help;
} tool_options;

#define AT(member) offsetof(tool_options, member)
static const option_row option_rows[] = {
    {"state_dir", OPTION_TEXT, AT(state_dir)},
    {"config", OPTION_TEXT, AT(config_path)},
    {"artifact_store", OPTION_SETTING, AT(settings)},
    {"s3_endpoint", OPTION_SETTING, AT(settings)},
    {"s3_region", OPTION_SETTING, AT(settings)},
    {"s3_credentials_file", OPTION_SETTING, AT(settings)},
    {"s3_metadata", OPTION_SETTING, AT(settings)},
    {"s3_private", OPTION_SETTING, AT(settings)},
    {"s3_ca_file", OPTION_SETTING, AT(settings)},
    {"s3_path_style", OPTION_SETTING, AT(settings)},
    {"s3_retry_seconds", OPTION_SETTING, AT(settings)},
    {"json", OPTION_FLAG, AT(json)},
    {"help", OPTION_LAST, AT(help)},
    {"", OPTION_ARGUMENT, AT(files)},
    {NULL, OPTION_END, 0},
};

static const char *const tool_words[] = {"recover", "restore", "doctor"};
enum { TOOL_RECOVER, TOOL_RESTORE, TOOL_DOCTOR, TOOL_COUNT };

bool recovery_is_tool(const char *word)
{
    return text_find(tool_words, TOOL_COUNT, word) < TOOL_COUNT;
}

static void print_usage(FILE *stream)
{
    fputs("Usage: didid recover --state-dir DIR [--config FILE] [OPTION]... [--json]\n"
          "       didid restore --state-dir DIR FILE\n"
          "       didid doctor --state-dir DIR [--json]\n"
          "While no daemon uses DIR: rebuild rows of finished jobs from their files, put a backup\n"
          "of the database back, or tell what is wrong.\n\n"
          "  --config FILE    recover: the daemon's settings; of these, artifact_store and s3_*\n"
          "                   count, which are options too: jobs that lie there are rebuilt\n"
          "  --json           the report as one JSON document\n"
          "  --help           this text\n\n"
          "Exit codes: 0 well, 1 failed or something is wrong, 2 usage.\n",
          stream);
}

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : "";
}

static int print_json(const json_t *document)
{
    int failed = json_dumpf(document, stdout, JSON_INDENT(2)) != 0 || puts("") < 0;
    return failed != 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* What a daemon would be told of S3. */
static int read_settings(const tool_options *options, config *settings, didi_error *error)
{
    int status = config_init(settings, error);
    if (status == DIDI_OK && options->config_path != NULL)
        status = config_read_file(settings, options->config_path, error);
    for (size_t i = 0; i < options->settings.count && status == DIDI_OK; i++)
        status =
            config_set(settings, options->settings.keys[i], options->settings.values[i], error);
    return status;
}

static int run_recover(const tool_options *options, didi_error *error)
{
    json_t *report = NULL;
    config settings = {0};
    int status = read_settings(options, &settings, error);
    if (status == DIDI_OK)
        status = recovery_recover(options->state_dir, &settings, &report, error);
    config_clear(&settings);
    if (status != DIDI_OK)
        return EXIT_FAILURE;
    const json_t *left = json_object_get(report, "left");
    const size_t count =
        json_array_size(left) + (size_t)json_integer_value(json_object_get(report, "more"));
    int code = EXIT_SUCCESS;
    if (options->json)
        code = print_json(report);
    else
        printf("rebuilt %lld jobs, %lld were known, %zu could not be used\n",
               (long long)json_integer_value(json_object_get(report, "rebuilt")),
               (long long)json_integer_value(json_object_get(report, "known")), count);
    json_decref(report);
    return count > 0 ? EXIT_FAILURE : code;
}

static int run_restore(const tool_options *options, didi_error *error)
{
    state_dir *state = NULL;
    char aside[64] = "";
    if (options->files.count != 1) {
        didi_fail(error, DIDI_INVALID, NULL, "one FILE is needed");
        return OPTIONS_EXIT_USAGE;
    }
    int status = state_dir_open(options->state_dir, &state, error);
    if (status == DIDI_OK)
        status = store_restore(state_dir_fd(state), options->state_dir, options->files.texts[0],
                               aside, error);
    state_dir_close(state);
    if (status != DIDI_OK)
        return EXIT_FAILURE;
    printf("restored %s%s%s\n", options->files.texts[0],
           aside[0] != '\0' ? "; the database that was there is now " : "", aside);
    return EXIT_SUCCESS;
}

static void print_findings(const json_t *findings)
{
    const json_t *finding = NULL;
    size_t index = 0;
    json_array_foreach(findings, index, finding)
    {
        printf("%-8s %-12s %s\n", text_of(finding, "state"), text_of(finding, "check"),
               text_of(finding, "detail"));
    }
}

/* All pages of jobs; their findings are added to the report's. */
static int examine_jobs(const char *directory, json_t *report, didi_error *error)
{
    char after[ID_BYTES] = "";
    long long jobs = 0;
    for (bool more = true; more;) {
        json_t *page = NULL;
        int status = doctor_examine_jobs(directory, after, &page, error);
        if (status != DIDI_OK)
            return status;
        jobs += json_integer_value(json_object_get(page, "jobs"));
        json_array_extend(json_object_get(report, "findings"), json_object_get(page, "findings"));
        more = text_of(page, "next")[0] != '\0';
        (void)snprintf(after, sizeof after, "%s", text_of(page, "next"));
        json_decref(page);
        fprintf(stderr, "didid doctor: %lld jobs compared with their manifests\n", jobs);
    }
    json_object_set_new(report, "jobs", json_integer(jobs));
    return DIDI_OK;
}

static int run_doctor(const tool_options *options, didi_error *error)
{
    json_t *report = NULL;
    state_dir *state = NULL;
    int status = state_dir_open_existing(options->state_dir, &state, error);
    if (status == DIDI_OK)
        status = doctor_examine(options->state_dir, NULL, false, &report, error);
    if (status == DIDI_OK && json_is_true(json_object_get(report, "jobs_can_be_checked")))
        status = examine_jobs(options->state_dir, report, error);
    state_dir_close(state);
    const json_t *findings = json_object_get(report, "findings");
    int code = status != DIDI_OK || doctor_found_errors(findings) ? EXIT_FAILURE : EXIT_SUCCESS;
    if (report != NULL && options->json)
        code |= print_json(report);
    else if (report != NULL)
        print_findings(findings);
    json_decref(report);
    return code;
}

int recovery_main(int argc, char **argv)
{
    static int (*const tools[TOOL_COUNT])(const tool_options *options, didi_error *error) = {
        run_recover, run_restore, run_doctor};
    tool_options options = {0};
    didi_error error = {0};
    char program[32];
    const size_t tool = text_find(tool_words, TOOL_COUNT, argv[0]);
    (void)snprintf(program, sizeof program, "didid %s", argv[0]);
    if (options_read(option_rows, &options, argc, argv, &error) != DIDI_OK)
        return options_refuse(program, &error);
    if (options.help) {
        print_usage(stdout);
        return EXIT_SUCCESS;
    }
    if (options.state_dir == NULL)
        didi_fail(&error, DIDI_INVALID, NULL, "--state-dir is required");
    else if (tool != TOOL_RESTORE && options.files.count > 0)
        didi_fail(&error, DIDI_INVALID, NULL, "'%s' is one word too many", options.files.texts[0]);
    else if (tool != TOOL_RECOVER && (options.config_path != NULL || options.settings.count > 0))
        didi_fail(&error, DIDI_INVALID, NULL, "settings are for didid recover alone");
    if (error.status != DIDI_OK)
        return options_refuse(program, &error);
    int code = tools[tool](&options, &error);
    if (error.status != DIDI_OK)
        fprintf(stderr, "%s: %s\n", program, error.message);
    return code;
}
