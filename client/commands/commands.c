/* SPDX-License-Identifier: Apache-2.0 */
/* The list of all commands, their help, and what each is given when it runs. */
#include "client/commands/commands.h"

#include "client/commands/advise.h"
#include "client/commands/command.h"
#include "client/commands/examples.h"
#include "proto/proto.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const client_command *const all_commands[] = {
#define COMMAND_ADDRESS(name) &command_##name,
    COMMAND_TABLE(COMMAND_ADDRESS)
#undef COMMAND_ADDRESS
};

const client_command *const *command_list(size_t *ret_count)
{
    *ret_count = sizeof all_commands / sizeof all_commands[0];
    return all_commands;
}

const client_command *command_find(char *const *words, int count, int *ret_words)
{
    for (size_t i = 0; i < sizeof all_commands / sizeof all_commands[0]; i++) {
        const char *name = all_commands[i]->name;
        const char *space = strchr(name, ' ');
        size_t first = space != NULL ? (size_t)(space - name) : strlen(name);
        if (count == 0 || strlen(words[0]) != first || strncmp(words[0], name, first) != 0)
            continue;
        if (space == NULL || (count > 1 && strcmp(words[1], space + 1) == 0)) {
            *ret_words = space == NULL ? 1 : 2;
            return all_commands[i];
        }
    }
    return NULL;
}

/* "model" alone: the words that may follow it. */
static bool list_second_words(const char *first, char *list, size_t size)
{
    const size_t bytes = strlen(first);
    list[0] = '\0';
    for (size_t i = 0; i < sizeof all_commands / sizeof all_commands[0]; i++) {
        const char *name = all_commands[i]->name;
        if (strncmp(name, first, bytes) == 0 && name[bytes] == ' ')
            text_list_add(list, size, "", name + bytes + 1);
    }
    return list[0] != '\0';
}

int command_fail_unknown(char *const *words, int count, client_advice *advice, didi_error *error)
{
    char list[256];
    char meant[NEAREST_TEXT_BYTES];
    const bool group = list_second_words(words[0], list, sizeof list);
    if (group && count == 1) {
        advice_give(advice, "didictl %s WORD --help", words[0]);
        return didi_fail(error, CLIENT_USAGE, words[0], "a word must follow: %s", list);
    }
    char *typed = group ? memory_format("%s %s", words[0], words[1]) : memory_string(words[0]);
    if (typed == NULL)
        return client_fail_memory(error);
    nearest near = nearest_begin(typed);
    for (size_t i = 0; i < sizeof all_commands / sizeof all_commands[0]; i++) {
        const char *name = all_commands[i]->name;
        const char *space = strchr(name, ' ');
        char first[NEAREST_BYTES_MAX + 1];
        nearest_try(&near, name);
        if (space != NULL && !group) { /* "modle ls" */
            snprintf(first, sizeof first, "%.*s", (int)(space - name), name);
            nearest_try(&near, first);
        }
    }
    didi_fail(error, CLIENT_USAGE, NULL, "there is no command '%s'%s", typed,
              nearest_text(&near, "'", "'", meant));
    free(typed);
    return CLIENT_USAGE;
}

const char *command_name(const client_command *command)
{
    return command->name;
}

option_table command_options(const client_command *command)
{
    return command->options;
}

int command_integer(const command_context *context, const command_number *number, long *ret_value,
                    didi_error *error)
{
    assert(number->minimum <= number->fallback && number->fallback <= number->maximum);
    const char *text = arguments_value(context->arguments, number->id);
    if (text == NULL) {
        *ret_value = number->fallback;
        return CLIENT_OK;
    }
    char *end = NULL;
    errno = 0;
    long value = strtol(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || value < number->minimum ||
        value > number->maximum)
        return didi_fail(error, CLIENT_USAGE, number->flag, "'%s' is not a whole number from %ld",
                         text, number->minimum);
    *ret_value = value;
    return CLIENT_OK;
}

int command_change_each(const command_context *context, const char *path, const char *what,
                        const char *method, const char *ending, didi_error *error)
{
    const char *id;
    for (size_t i = 0; (id = arguments_word(context->arguments, i)) != NULL; i++) {
        char target[128];
        json_t *answer = NULL;
        if (!name_is_job(id))
            return didi_fail(error, CLIENT_USAGE, id, "not the id of %s, 26 characters", what);
        (void)snprintf(target, sizeof target, "%s/%s%s", path, id, ending);
        int status = service_send(context->service, method, target, NULL, NULL, &answer, error);
        json_decref(answer);
        if (status != CLIENT_OK)
            return status;
    }
    return CLIENT_OK;
}

int command_print(const command_context *context, int status, json_t *document,
                  const char *name_key, command_printer print, didi_error *error)
{
    bool table = context->settings->format == OUTPUT_TABLE;
    if (status == CLIENT_OK)
        status = table ? print(context, document, error)
                       : output_records(context->output, document, name_key, error);
    json_decref(document);
    return status;
}

/* How many words a synopsis asks for: "JOB DIR" two, "[FILE]" at most one, "JOB..." one or more. */
static int check_words(const client_command *command, const client_arguments *arguments,
                       didi_error *error)
{
    size_t given = 0;
    size_t least = 0;
    size_t most = strstr(command->words, "...") != NULL ? SIZE_MAX / 2 : 0;
    for (const char *word = command->words; word != NULL && *word != '\0';) {
        least += *word != '[';
        most++;
        word = strchr(word, ' ');
        word = word != NULL ? word + 1 : NULL;
    }
    while (arguments_word(arguments, given) != NULL)
        given++;
    if (given < least || given > most)
        return didi_fail(error, CLIENT_USAGE, NULL, "%s: didictl %s %s",
                         given < least ? "too few words" : "too many words", command->name,
                         command->words);
    return CLIENT_OK;
}

static int run_with(const client_command *command, command_context *context, didi_error *error)
{
    context->output = output_create(context->settings);
    int status = context->output == NULL ? client_fail_memory(error)
                                         : interrupt_open(&context->interrupt, error);
    if (status == CLIENT_OK)
        status = service_open(context->settings, context->interrupt, &context->service, error);
    if (status == CLIENT_OK)
        status = command->run(context, error);
    if (status == CLIENT_OK)
        status = output_finish(context->output, error);
    if (status != CLIENT_OK)
        advise(context, status, error);
    service_close(context->service);
    interrupt_close(context->interrupt);
    output_free(context->output);
    return status;
}

int command_run(const client_command *command, const client_arguments *arguments,
                client_advice *advice, didi_error *error)
{
    client_settings settings = {0};
    command_context context = {.arguments = arguments, .settings = &settings, .advice = advice};
    int status = check_words(command, arguments, error);
    if (status == CLIENT_OK)
        status = settings_load(arguments, &settings, advice, error);
    if (status == CLIENT_OK)
        status = run_with(command, &context, error);
    settings_clear(&settings);
    return status;
}

static void print_options(FILE *stream, option_table options)
{
    for (size_t i = 0; i < options.count; i++) {
        const option_row *row = &options.rows[i];
        char left[64];
        char letter[4] = "   ";
        if (row->letter != 0)
            snprintf(letter, sizeof letter, "-%c,", row->letter);
        snprintf(left, sizeof left, "%s --%s%s%s", letter, row->name,
                 row->argument != NULL ? " " : "", row->argument != NULL ? row->argument : "");
        fprintf(stream, "  %-28s %s\n", left, row->help);
    }
}

void help_overview(FILE *stream)
{
    size_t count = 0;
    const client_command *const *commands = command_list(&count);
    fputs("usage: didictl [OPTION...] COMMAND [ARGUMENT...]\n\n"
          "Merges fine-tuned checkpoints on a didid server.\n\nCommands:\n",
          stream);
    for (size_t i = 0; i < count; i++) {
        char left[64];
        snprintf(left, sizeof left, "%s %s", commands[i]->name, commands[i]->words);
        fprintf(stream, "  %-30s %s\n", left, commands[i]->summary);
    }
    fputs("\nOptions of every command:\n", stream);
    print_options(stream, settings_options());
    fputs("\nJOB is an id, a unique beginning of one, or @latest.\n"
          "Environment: DIDI_HOST, DIDI_CONTEXT, DIDI_TOKEN_FILE, DIDI_TOKEN, DIDI_CA_FILE,\n"
          "             DIDI_OUTPUT, DIDI_TIMEOUT, DIDI_CONFIG, NO_COLOR.\n"
          "Exit codes: 0 ok, 1 failure, 2 usage, 3 job failed or cancelled, 4 denied,\n"
          "            5 server not reachable, 130 interrupted.\n"
          "More: didictl COMMAND --help, man didictl\n",
          stream);
}

void help_command(FILE *stream, const client_command *command)
{
    fprintf(stream, "usage: didictl %s%s%s%s\n\n%s\n", command->name,
            command->options.count > 0 ? " [OPTION...]" : "", command->words[0] != '\0' ? " " : "",
            command->words, command->summary);
    if (command->text != NULL)
        fprintf(stream, "\n%s", command->text);
    if (examples_of(command->name) != NULL)
        fprintf(stream, "\nExamples:\n%s", examples_of(command->name));
    if (command->options.count > 0) {
        fputs("\nOptions:\n", stream);
        print_options(stream, command->options);
    }
    fputs("\nOptions of every command:\n", stream);
    print_options(stream, settings_options());
}
