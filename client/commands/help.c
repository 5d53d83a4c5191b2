/* SPDX-License-Identifier: Apache-2.0 */
/* Help texts, made from the tables of commands and options. */
#include "client/commands/help.h"

#include <string.h>

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
        fprintf(stream, "  %-20s %s\n", left, commands[i]->summary);
    }
    fputs("\nOptions of every command:\n", stream);
    print_options(stream, settings_options());
    fputs("\nJOB is an id, a unique beginning of one, or @latest.\n"
          "Environment: DIDI_HOST, DIDI_OUTPUT, DIDI_TIMEOUT, DIDI_CONFIG, NO_COLOR.\n"
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
    if (command->text[0] != '\0')
        fprintf(stream, "\n%s", command->text);
    if (command->options.count > 0) {
        fputs("\nOptions:\n", stream);
        print_options(stream, command->options);
    }
    fputs("\nOptions of every command:\n", stream);
    print_options(stream, settings_options());
}
