/* SPDX-License-Identifier: Apache-2.0 */
/* didictl: reads the command line, runs one command, reports its error, exits with its code. */
#include "client/base/base.h"
#include "client/commands/commands.h"
#include "src/base/base.h"

#include <locale.h>
#include <stdio.h>
#include <string.h>

/* What the command line says. */
typedef struct command_line {
    client_arguments *arguments;
    const client_command *command; /* NULL when help or the version alone is wanted */
    bool help, version;
    client_advice advice;
} command_line;

static int read_command(command_line *self, int count, char **words, didi_error *error)
{
    static const option_table none = {NULL, 0};
    int used = 0;
    int name_words = 0;
    int status = arguments_parse(self->arguments, none, words, count, true, &used, error);
    if (status != CLIENT_OK)
        return status;
    words += used;
    count -= used;
    bool help_word = count > 0 && strcmp(words[0], "help") == 0;
    if (help_word) {
        words++;
        count--;
    }
    self->help = help_word || arguments_has(self->arguments, SETTINGS_ID_HELP);
    self->version = arguments_has(self->arguments, SETTINGS_ID_VERSION);
    if (count == 0)
        return self->help || self->version ? CLIENT_OK
                                           : didi_fail(error, CLIENT_USAGE, NULL, "no command");
    self->command = command_find(words, count, &name_words);
    if (self->command == NULL)
        return command_fail_unknown(words, count, &self->advice, error);
    status = arguments_parse(self->arguments, command_options(self->command),
                             words + name_words - 1, count - name_words + 1, false, &used, error);
    self->help = self->help || arguments_has(self->arguments, SETTINGS_ID_HELP);
    self->version = self->version || arguments_has(self->arguments, SETTINGS_ID_VERSION);
    return status;
}

static int run_request(command_line *request, didi_error *error)
{
    if (request->help && request->command != NULL)
        help_command(stdout, request->command);
    else if (request->help)
        help_overview(stdout);
    else if (request->version)
        printf("didictl %s\n", DIDICTL_VERSION);
    else
        return command_run(request->command, request->arguments, &request->advice, error);
    return fflush(stdout) == 0 ? CLIENT_OK
                               : didi_fail(error, CLIENT_FAILURE, "stdout", "cannot be written");
}

static void report(command_line *request, const didi_error *error)
{
    const char *subject = error->status == CLIENT_INTERRUPTED ? "" : error->subject;
    fflush(stdout);
    fprintf(stderr, "didictl: %s%s%s\n", subject, subject[0] != '\0' ? ": " : "", error->message);
    if (error->status == CLIENT_USAGE && request->command != NULL)
        advice_give(&request->advice, "didictl %s --help", command_name(request->command));
    else if (error->status == CLIENT_USAGE)
        advice_give(&request->advice, "didictl --help");
    if (request->advice.text[0] != '\0')
        fprintf(stderr, "next: %s\n", request->advice.text);
}

int main(int count, char **words)
{
    setlocale(LC_CTYPE, "");
    didi_error error = {0};
    command_line request = {.arguments = arguments_create(settings_options())};
    int status = request.arguments == NULL ? client_fail_memory(&error)
                                           : read_command(&request, count, words, &error);
    if (status == CLIENT_OK)
        status = run_request(&request, &error);
    arguments_free(request.arguments);
    if (status != CLIENT_OK)
        report(&request, &error);
    return status;
}
