/* SPDX-License-Identifier: Apache-2.0 */
/* completion: scripts for bash, zsh and fish, made from the tables of commands and options.
 *
 * Names of jobs and models come from a server when the user presses the key. They are compared and
 * inserted, never expanded: no shell sees one as text of its own. */
#include "client/commands/command.h"

#include <stdio.h>
#include <string.h>

/* What a word of a synopsis, or an option's argument, is completed by. */
typedef enum word_kind { WORD_FREE, WORD_JOBS, WORD_MODELS, WORD_FILES } word_kind;
static const char *const kind_names[] = {"free", "jobs", "models", "files"};

/* Options whose values are words: long name -> the words. */
#define OUTPUT_WORD(id, name) name " "
static const char *const option_values[][2] = {
    {"output", OUTPUT_FORMAT_TABLE(OUTPUT_WORD)},
    {"format", "native full peft peft-exact router"},
    {"check", "peft vllm sglang"},
    {"state", "queued running succeeded failed cancelled ready broken"},
    {"dtype", "f32 bf16 f16 int8 int4 int3 auto"},
    {"objective", "mean worst_task"},
};
#undef OUTPUT_WORD

static const char *find_values(const option_row *row)
{
    for (size_t i = 0; i < sizeof option_values / sizeof option_values[0]; i++)
        if (strcmp(option_values[i][0], row->name) == 0)
            return option_values[i][1];
    return NULL;
}

static word_kind kind_of(const char *synopsis)
{
    if (strncmp(synopsis, "JOB", 3) == 0)
        return WORD_JOBS;
    if (strncmp(synopsis, "MODEL", 5) == 0)
        return WORD_MODELS;
    if (strncmp(synopsis, "[FILE", 5) == 0 || strncmp(synopsis, "FILE", 4) == 0 ||
        strncmp(synopsis, "DIR", 3) == 0)
        return WORD_FILES;
    return WORD_FREE;
}

/* The name of a command's first word ends here. */
static int first_bytes(const client_command *command)
{
    return (int)strcspn(command->name, " ");
}

static bool begins_group(const client_command *const *commands, size_t index)
{
    const client_command *command = commands[index];
    const size_t bytes = (size_t)first_bytes(command);
    return index == 0 || (size_t)first_bytes(commands[index - 1]) != bytes ||
           strncmp(commands[index - 1]->name, command->name, bytes) != 0;
}

/* Words that a synopsis spells in small letters: those that may stand there. */
static bool is_literal(const char *synopsis)
{
    return synopsis[0] >= 'a' && synopsis[0] <= 'z';
}

static void print_literals(const char *synopsis)
{
    for (const char *c = synopsis; *c != '\0'; c++)
        putchar(*c == '|' ? ' ' : *c);
}

/* ---- bash and zsh: the tables are shell text that both read ---- */

static void print_option_words(option_table options)
{
    for (size_t i = 0; i < options.count; i++)
        printf(" --%s", options.rows[i].name);
}

static void print_flag_pattern(const option_row *row)
{
    printf("    --%s", row->name);
    if (row->letter != 0)
        printf(" | -%c", row->letter);
    fputs(") ", stdout);
}

/* One line for an option whose value is known; words of other options are left to the user. */
static void print_value_case(const option_row *row)
{
    const char *values = find_values(row);
    if (row->argument == NULL)
        return;
    print_flag_pattern(row);
    if (values != NULL)
        printf("offers='%s'", values);
    else
        printf("kind=%s", kind_names[kind_of(row->argument)]);
    puts("; return ;;");
}

static bool takes_values(option_table options)
{
    bool found = false;
    for (size_t i = 0; i < options.count; i++)
        found = found || options.rows[i].argument != NULL;
    return found;
}

static void print_command_case(const client_command *command)
{
    printf("    '%s'", command->name);
    puts(")");
    if (takes_values(command->options))
        puts("    case \"$2\" in");
    for (size_t i = 0; i < command->options.count; i++)
        print_value_case(&command->options.rows[i]);
    if (takes_values(command->options))
        puts("    esac");
    fputs("        offers='", stdout);
    print_option_words(command->options);
    if (is_literal(command->words)) {
        putchar(' ');
        print_literals(command->words);
    }
    printf(" '\"$global\"\n        kind=%s ;;\n", kind_names[kind_of(command->words)]);
}

static void print_groups(const client_command *const *commands, size_t count, bool pairs)
{
    for (size_t i = 0; i < count; i++)
        if (begins_group(commands, i) && (!pairs || strchr(commands[i]->name, ' ') != NULL))
            printf(" %.*s", first_bytes(commands[i]), commands[i]->name);
}

/* The second words of every command of two. */
static void print_group_cases(const client_command *const *commands, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const char *space = strchr(commands[i]->name, ' ');
        if (space == NULL)
            continue;
        if (begins_group(commands, i))
            printf("    %.*s) offers='", first_bytes(commands[i]), commands[i]->name);
        printf(" %s", space + 1);
        if (i + 1 == count || begins_group(commands, i + 1))
            puts("' ;;");
    }
}

static void print_tables(const client_command *const *commands, size_t count)
{
    const option_table globals = settings_options();
    puts("# $1: the command so far, $2: the word before. Sets offers, kind and pairs.\n"
         "_didictl_facts() {");
    fputs("    local global='", stdout);
    print_option_words(globals);
    fputs("'\n    pairs='", stdout);
    print_groups(commands, count, true);
    puts(" '\n    offers='' kind=free\n    case \"$2\" in");
    for (size_t i = 0; i < globals.count; i++)
        print_value_case(&globals.rows[i]);
    fputs("    esac\n    case \"$1\" in\n    '') offers='", stdout);
    print_groups(commands, count, false);
    puts(" help'\"$global\" ;;");
    print_group_cases(commands, count);
    for (size_t i = 0; i < count; i++)
        print_command_case(commands[i]);
    puts("    esac\n}\n");
    fputs("# Options of every command that a value follows.\n_didictl_takes_value() {\n"
          "    case \"$1\" in\n",
          stdout);
    for (size_t i = 0; i < globals.count; i++)
        if (globals.rows[i].argument != NULL) {
            print_flag_pattern(&globals.rows[i]);
            puts("return 0 ;;");
        }
    puts("    esac\n    return 1\n}\n");
}

/* The commands among the words before the cursor; `%s` is how the shell spells these words. */
static void print_search(const char *words_before)
{
    printf("    _didictl_facts '' ''\n"
           "    for word in %s; do\n"
           "        if [[ -n $skip ]]; then skip=''; continue; fi\n"
           "        if [[ $word == -* ]]; then\n"
           "            _didictl_takes_value \"$word\" && skip=1\n"
           "            continue\n"
           "        fi\n"
           "        verb=\"${verb:+$verb }$word\"\n"
           "        [[ $verb != *' '* && $pairs == *\" $verb \"* ]] || break\n"
           "    done\n"
           "    _didictl_facts \"$verb\" \"$previous\"\n",
           words_before);
}

static void print_bash(const client_command *const *commands, size_t count)
{
    puts("# bash completion for didictl; load with: source <(didictl completion bash)");
    print_tables(commands, count);
    puts(
        "_didictl() {\n"
        "    local current=\"${COMP_WORDS[COMP_CWORD]}\" previous=\"${COMP_WORDS[COMP_CWORD-1]}\"\n"
        "    local verb='' skip='' word offers kind pairs");
    print_search("\"${COMP_WORDS[@]:1:COMP_CWORD-1}\"");
    puts("    COMPREPLY=()\n"
         "    while IFS= read -r word; do\n"
         "        [[ -z $word || $word == *[^A-Za-z0-9@._/=:+-]* ]] && continue\n"
         "        [[ $word == \"$current\"* ]] && COMPREPLY+=(\"$word\")\n"
         "    done < <(\n"
         "        printf '%s\\n' $offers\n"
         "        [[ $current == -* ]] && exit\n"
         "        [[ $kind == jobs ]] && { echo @latest; didictl jobs -o name 2>/dev/null; }\n"
         "        [[ $kind == models ]] && didictl model ls -o name 2>/dev/null)\n"
         "    [[ $kind == files ]] && while IFS= read -r word; do\n"
         "        COMPREPLY+=(\"$word\")\n"
         "    done < <(compgen -f -- \"$current\")\n"
         "    return 0\n"
         "}\n"
         "complete -o filenames -F _didictl didictl");
}

static void print_zsh(const client_command *const *commands, size_t count)
{
    puts("#compdef didictl\n"
         "# zsh completion for didictl; load with: source <(didictl completion zsh)");
    print_tables(commands, count);
    puts("_didictl() {\n"
         "    local -a before=(\"${(@)words[2,CURRENT-1]}\") found\n"
         "    local previous=\"${words[CURRENT-1]}\" verb='' skip='' word offers kind pairs");
    print_search("\"${before[@]}\"");
    puts("    found=(${=offers})\n"
         "    if [[ $PREFIX != -* ]]; then\n"
         "        [[ $kind == jobs ]] &&\n"
         "            found+=(@latest ${(f)\"$(didictl jobs -o name 2>/dev/null)\"})\n"
         "        [[ $kind == models ]] && found+=(${(f)\"$(didictl model ls -o name "
         "2>/dev/null)\"})\n"
         "        [[ $kind == files ]] && _files\n"
         "    fi\n"
         "    compadd -- \"${found[@]}\"\n"
         "}\n"
         "if [[ ${funcstack[1]} == _didictl ]]; then _didictl \"$@\"; else compdef _didictl "
         "didictl; fi");
}

/* ---- fish: one line for each command and option ---- */

static void print_fish_text(const char *text)
{
    putchar('\'');
    for (const char *c = text; *c != '\0'; c++) {
        if (*c == '\'' || *c == '\\')
            putchar('\\');
        putchar(*c);
    }
    putchar('\'');
}

static const char *fish_source(word_kind kind)
{
    static const char *const sources[] = {
        [WORD_FREE] = "",
        [WORD_JOBS] = "@latest (didictl jobs -o name 2>/dev/null)",
        [WORD_MODELS] = "(didictl model ls -o name 2>/dev/null)",
        [WORD_FILES] = "",
    };
    return sources[kind];
}

static void print_fish_option(const char *condition, const option_row *row)
{
    const char *values = find_values(row);
    printf("complete -c didictl%s -l %s", condition, row->name);
    if (row->letter != 0)
        printf(" -s %c", row->letter);
    if (row->argument != NULL) {
        word_kind kind = kind_of(row->argument);
        printf(" %s", kind == WORD_FILES ? "-r -F" : "-x");
        if (values != NULL || fish_source(kind)[0] != '\0') {
            fputs(" -a ", stdout);
            print_fish_text(values != NULL ? values : fish_source(kind));
        }
    }
    fputs(" -d ", stdout);
    print_fish_text(row->help);
    putchar('\n');
}

static void print_fish_command(const client_command *command)
{
    char condition[160];
    const char *space = strchr(command->name, ' ');
    int first = first_bytes(command);
    word_kind kind = kind_of(command->words);
    if (space != NULL)
        snprintf(condition, sizeof condition,
                 " -n '__fish_seen_subcommand_from %.*s; and not __fish_seen_subcommand_from %s'",
                 first, command->name, space + 1);
    else
        snprintf(condition, sizeof condition, " -n __didictl_bare");
    printf("complete -c didictl%s -a %s -d ", condition, space != NULL ? space + 1 : command->name);
    print_fish_text(command->summary);
    putchar('\n');
    if (space != NULL)
        snprintf(condition, sizeof condition,
                 " -n '__fish_seen_subcommand_from %.*s; and __fish_seen_subcommand_from %s'",
                 first, command->name, space + 1);
    else
        snprintf(condition, sizeof condition, " -n '__fish_seen_subcommand_from %s'",
                 command->name);
    if (kind == WORD_FILES) {
        printf("complete -c didictl%s -F\n", condition);
    } else if (kind != WORD_FREE || is_literal(command->words)) {
        printf("complete -c didictl%s -a '", condition);
        print_literals(kind != WORD_FREE ? fish_source(kind) : command->words);
        puts("'");
    }
    for (size_t i = 0; i < command->options.count; i++)
        print_fish_option(condition, &command->options.rows[i]);
}

static void print_fish(const client_command *const *commands, size_t count)
{
    const option_table globals = settings_options();
    puts("# fish completion for didictl; load with: didictl completion fish | source\n"
         "complete -c didictl -f\n"
         "# No command is there yet, whatever options with values are.\n"
         "function __didictl_bare");
    fputs("    not __fish_seen_subcommand_from", stdout);
    print_groups(commands, count, false);
    puts("\nend");
    for (size_t i = 0; i < globals.count; i++)
        print_fish_option("", &globals.rows[i]);
    for (size_t i = 0; i < count; i++) {
        if (begins_group(commands, i) && strchr(commands[i]->name, ' ') != NULL)
            printf("complete -c didictl -n __didictl_bare -a %.*s\n", first_bytes(commands[i]),
                   commands[i]->name);
        print_fish_command(commands[i]);
    }
}

static int run_completion(const command_context *context, didi_error *error)
{
    static const struct {
        const char *name;
        void (*print)(const client_command *const *commands, size_t count);
    } shells[] = {{"bash", print_bash}, {"zsh", print_zsh}, {"fish", print_fish}};
    const char *shell = arguments_word(context->arguments, 0);
    size_t count = 0;
    const client_command *const *commands = command_list(&count);
    for (size_t i = 0; i < sizeof shells / sizeof shells[0]; i++)
        if (strcmp(shells[i].name, shell) == 0) {
            shells[i].print(commands, count);
            return CLIENT_OK;
        }
    return didi_fail(error, CLIENT_USAGE, shell, "only bash, zsh and fish are known");
}

const client_command command_completion = {
    .name = "completion",
    .words = "bash|zsh|fish",
    .summary = "print a completion script for the shell",
    .run = run_completion,
};
