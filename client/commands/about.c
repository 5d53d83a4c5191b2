/* SPDX-License-Identifier: Apache-2.0 */
/* version and completion. */
#include "client/commands/command.h"

#include <stdio.h>
#include <string.h>

static int run_version(const command_context *context, didi_error *error)
{
    json_t *server = NULL;
    int status = CLIENT_OK;
    if (!arguments_has(context->arguments, OPTION_CLIENT))
        status = service_get(context->service, 0, &server, error, "/v1/version");
    if (context->settings->format != OUTPUT_TABLE) {
        json_t *both = json_pack("{s:s, s:O?}", "client", DIDICTL_VERSION, "server", server);
        int printed = output_json(context->output, both, status == CLIENT_OK ? error : NULL);
        json_decref(both);
        json_decref(server);
        return status != CLIENT_OK ? status : printed;
    }
    const json_t *blas = json_object_get(server, "blas");
    client_table *table = table_create_facts();
    table_add(table, "didictl");
    table_add(table, "%s", DIDICTL_VERSION);
    if (server != NULL) {
        table_add(table, "didid");
        table_add(table, "%s (%s)", record_text(server, "version"), context->settings->host);
        table_add(table, "BLAS");
        table_add(table, "%s, %s, %s", record_text(blas, "library"), record_text(blas, "flavour"),
                  record_text(blas, "kernel"));
    }
    int printed = output_table(context->output, table, status == CLIENT_OK ? error : NULL);
    json_decref(server);
    return status != CLIENT_OK ? status : printed;
}

static void print_option_words(option_table options)
{
    for (size_t i = 0; i < options.count; i++)
        printf(" --%s", options.rows[i].name);
}

/* First words of all commands, and per command its options; ids of jobs are asked of the server. */
static int run_completion(const command_context *context, didi_error *error)
{
    const char *shell = arguments_word(context->arguments, 0);
    if (strcmp(shell, "bash") != 0)
        return didi_fail(error, CLIENT_USAGE, shell, "only bash is known");
    size_t count = 0;
    const client_command *const *commands = command_list(&count);
    puts("# bash completion for didictl; load with: source <(didictl completion bash)");
    puts(
        "_didictl() {\n"
        "    local current=\"${COMP_WORDS[COMP_CWORD]}\" previous=\"${COMP_WORDS[COMP_CWORD-1]}\"\n"
        "    local verb=\"\" options=\"\" word");
    printf("    local global=\"");
    print_option_words(settings_options());
    puts("\"");
    puts("    for word in \"${COMP_WORDS[@]:1:COMP_CWORD-1}\"; do\n"
         "        [[ $word != -* ]] && { verb=\"$word\"; break; }\n"
         "    done\n"
         "    case \"$previous\" in\n"
         "    -o|--output) COMPREPLY=($(compgen -W 'table json jsonl name' -- \"$current\")); "
         "return ;;\n"
         "    --format) COMPREPLY=($(compgen -W 'native full' -- \"$current\")); return ;;\n"
         "    --base) COMPREPLY=($(compgen -W \"$(didictl model ls -o name 2>/dev/null)\" \\\n"
         "        -- \"$current\")); return ;;\n"
         "    esac");
    printf("    if [[ -z $verb ]]; then\n        COMPREPLY=($(compgen -W \"");
    for (size_t i = 0; i < count; i++) {
        int bytes = (int)strcspn(commands[i]->name, " ");
        if (i == 0 || strncmp(commands[i - 1]->name, commands[i]->name, (size_t)bytes) != 0)
            printf("%.*s ", bytes, commands[i]->name);
    }
    puts("help $global\" -- \"$current\")); return\n    fi\n    case \"$verb\" in");
    for (size_t i = 0; i < count; i++) {
        if (strchr(commands[i]->name, ' ') != NULL)
            continue;
        printf("    %s) options=\"", commands[i]->name);
        print_option_words(commands[i]->options);
        puts("\" ;;");
    }
    puts("    model) options=\"ls show rescan\"\n"
         "        [[ $previous == show ]] && options=\"$(didictl model ls -o name 2>/dev/null)\" "
         ";;\n"
         "    esac\n"
         "    case \"$verb\" in\n"
         "    show|watch|wait|cancel|retry|rm|events|ranks|frontier|pull)\n"
         "        [[ $current != -* ]] && options=\"@latest $(didictl jobs -o name 2>/dev/null)\" "
         ";;\n"
         "    esac\n"
         "    COMPREPLY=($(compgen -W \"$options $global\" -- \"$current\"))\n"
         "    [[ $verb == submit || $verb == plan || $verb == pull ]] && [[ $current != -* ]] &&\n"
         "        COMPREPLY+=($(compgen -f -- \"$current\"))\n"
         "}\n"
         "complete -F _didictl didictl");
    return CLIENT_OK;
}

static const option_row version_options[] = {
    {OPTION_CLIENT, 0, "client", NULL, "do not ask the server"}};

const client_command command_version = {
    .name = "version",
    .words = "",
    .summary = "show versions of client and server",
    .options = COMMAND_OPTIONS(version_options),
    .run = run_version,
};
const client_command command_completion = {
    .name = "completion",
    .words = "bash",
    .summary = "print a completion script for the shell",
    .text = "  source <(didictl completion bash)\n",
    .run = run_completion,
};
