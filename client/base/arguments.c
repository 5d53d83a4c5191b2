/* SPDX-License-Identifier: Apache-2.0 */
/* A command line read against a table of options. */
#include "client/base/arguments.h"

#include "client/base/exit_code.h"
#include "src/base/base.h"

#include <assert.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    ARGUMENTS_WORD_ID = -1,
    ARGUMENTS_OPTIONS_MAX = 64, /* of a command and the globals together */
    ARGUMENTS_NAME = 256,       /* what getopt_long(3) gives for the name of the first row */
};

typedef struct arguments_entry {
    int id; /* ARGUMENTS_WORD_ID for a positional */
    const char *value;
} arguments_entry;

struct client_arguments {
    option_table globals;
    arguments_entry *entries;
    size_t count, room;
};

client_arguments *arguments_create(option_table globals)
{
    client_arguments *self = memory_zeroed(1, sizeof *self);
    if (self != NULL)
        self->globals = globals;
    return self;
}

void arguments_free(client_arguments *arguments)
{
    if (arguments != NULL) {
        free(arguments->entries);
        free(arguments);
    }
}

static int arguments_add(client_arguments *self, int id, const char *value, didi_error *error)
{
    arguments_entry *entries =
        memory_grown(self->entries, self->count, &self->room, sizeof *entries);
    if (entries == NULL)
        return client_fail_memory(error);
    self->entries = entries;
    self->entries[self->count++] = (arguments_entry){.id = id, .value = value};
    return CLIENT_OK;
}

/* The options as getopt_long(3) wants them. */
typedef struct known_options {
    const option_row *rows[ARGUMENTS_OPTIONS_MAX];
    struct option names[ARGUMENTS_OPTIONS_MAX + 1];
    char letters[2 + 2 * ARGUMENTS_OPTIONS_MAX + 1];
    size_t count;
} known_options;

static void known_add(known_options *self, option_table table)
{
    assert(table.count <= ARGUMENTS_OPTIONS_MAX - self->count);
    for (size_t i = 0; i < table.count; i++, self->count++) {
        const option_row *row = table.rows + i;
        bool bare = row->argument == NULL;
        size_t used = strlen(self->letters);
        self->rows[self->count] = row;
        self->names[self->count] =
            (struct option){.name = row->name,
                            .has_arg = bare ? no_argument : required_argument,
                            .val = ARGUMENTS_NAME + (int)self->count};
        if (row->letter != 0)
            snprintf(self->letters + used, sizeof self->letters - used, "%c%s", row->letter,
                     bare ? "" : ":");
    }
}

/* The row of what getopt_long(3) tells, a letter or the place of a name; else NULL. */
static const option_row *known_find(const known_options *self, int told)
{
    if (told >= ARGUMENTS_NAME)
        return self->rows[told - ARGUMENTS_NAME];
    for (size_t i = 0; told != 0 && i < self->count; i++)
        if (self->rows[i]->letter == told)
            return self->rows[i];
    return NULL;
}

/* The name of an option as it was typed, without dashes and value. */
static void fail_unknown(const known_options *self, const char *word, didi_error *error)
{
    char name[NEAREST_BYTES_MAX + 1];
    char meant[NEAREST_TEXT_BYTES];
    const char *typed = word + strspn(word, "-");
    size_t bytes = strcspn(typed, "=");
    bytes = bytes < sizeof name ? bytes : sizeof name - 1;
    memcpy(name, typed, bytes);
    name[bytes] = '\0';
    nearest near = nearest_begin(name);
    for (size_t i = 0; i < self->count; i++)
        nearest_try(&near, self->rows[i]->name);
    didi_fail(error, CLIENT_USAGE, NULL, "unknown option %.66s%s", word,
              nearest_text(&near, "--", "", meant));
}

/* Of the option in optopt, or in `word` if no row has that name. */
static int fail_option(const known_options *self, bool lacks_value, const char *word,
                       didi_error *error)
{
    const option_row *row = known_find(self, optopt);
    if (row == NULL && optopt != 0)
        didi_fail(error, CLIENT_USAGE, NULL, "unknown option -%c", optopt);
    else if (row == NULL)
        fail_unknown(self, word, error);
    else if (lacks_value)
        didi_fail(error, CLIENT_USAGE, NULL, "option --%s needs a value: %s", row->name,
                  row->argument);
    else
        didi_fail(error, CLIENT_USAGE, NULL, "option --%s takes no value", row->name);
    return CLIENT_USAGE;
}

int arguments_parse(client_arguments *arguments, option_table options, char *const *words,
                    int count, bool stop_at_word, int *ret_used, didi_error *error)
{
    known_options known = {.letters = {stop_at_word ? '+' : '-', ':'}};
    known_add(&known, options);
    known_add(&known, arguments->globals);
    opterr = 0;
    optind = 0; /* begins anew */
    int status = CLIENT_OK;
    while (status == CLIENT_OK) {
        int told = getopt_long(count, words, known.letters, known.names, NULL);
        if (told == -1)
            break;
        if (told == '?' || told == ':')
            return fail_option(&known, told == ':', words[optind - 1], error);
        const option_row *row = known_find(&known, told);
        status = arguments_add(arguments, row != NULL ? row->id : ARGUMENTS_WORD_ID, optarg, error);
    }
    for (; !stop_at_word && status == CLIENT_OK && optind < count; optind++) /* after "--" */
        status = arguments_add(arguments, ARGUMENTS_WORD_ID, words[optind], error);
    *ret_used = optind < count ? optind : count;
    return status;
}

static const arguments_entry *arguments_find(const client_arguments *arguments, int id,
                                             size_t index)
{
    for (size_t i = 0; i < arguments->count; i++)
        if (arguments->entries[i].id == id && index-- == 0)
            return &arguments->entries[i];
    return NULL;
}

bool arguments_has(const client_arguments *arguments, int id)
{
    return arguments_find(arguments, id, 0) != NULL;
}

const char *arguments_at(const client_arguments *arguments, int id, size_t index)
{
    const arguments_entry *entry = arguments_find(arguments, id, index);
    return entry != NULL ? entry->value : NULL;
}

const char *arguments_value(const client_arguments *arguments, int id)
{
    const char *last = NULL;
    for (size_t i = 0; i < arguments->count; i++)
        last = arguments->entries[i].id == id ? arguments->entries[i].value : last;
    return last;
}

const char *arguments_word(const client_arguments *arguments, size_t index)
{
    return arguments_at(arguments, ARGUMENTS_WORD_ID, index);
}
