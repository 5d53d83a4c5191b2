/* SPDX-License-Identifier: Apache-2.0 */
/* A command line read against a table of options. */
#include "client/base/arguments.h"

#include "client/base/exit_code.h"
#include "src/base/base.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { ARGUMENTS_WORD_ID = -1 };

typedef struct arguments_entry {
    int id; /* ARGUMENTS_WORD_ID for a positional */
    const char *value;
} arguments_entry;

struct client_arguments {
    option_table globals;
    arguments_entry *entries;
    size_t count, room;
};

/* Ids of the rows lie in the range that the header names. */
static bool ids_fit(option_table table)
{
    for (size_t i = 0; i < table.count; i++)
        if (table.rows[i].id < 0 || table.rows[i].id >= ARGUMENTS_ID_COUNT_MAX)
            return false;
    return true;
}

client_arguments *arguments_create(option_table globals)
{
    assert(ids_fit(globals));
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

static const option_row *option_by_letter(option_table table, char letter)
{
    for (size_t i = 0; i < table.count; i++)
        if (table.rows[i].letter != 0 && table.rows[i].letter == letter)
            return table.rows + i;
    return NULL;
}

static const option_row *option_by_name(option_table table, const char *name, size_t bytes)
{
    for (size_t i = 0; i < table.count; i++)
        if (strlen(table.rows[i].name) == bytes && memcmp(table.rows[i].name, name, bytes) == 0)
            return table.rows + i;
    return NULL;
}

typedef struct reader {
    client_arguments *arguments;
    option_table options;
    char *const *argv;
    size_t count, at;
} reader;

static int read_long(reader *self, didi_error *error)
{
    const char *word = self->argv[self->at] + 2;
    const char *equals = strchr(word, '=');
    size_t bytes = equals != NULL ? (size_t)(equals - word) : strlen(word);
    const option_row *row = option_by_name(self->options, word, bytes);
    if (row == NULL)
        row = option_by_name(self->arguments->globals, word, bytes);
    if (row == NULL)
        return didi_fail(error, CLIENT_USAGE, NULL, "unknown option --%.*s",
                         (int)(bytes < 64 ? bytes : 64), word);
    const char *value = equals != NULL ? equals + 1 : NULL;
    if (row->argument == NULL && value != NULL)
        return didi_fail(error, CLIENT_USAGE, NULL, "option --%s takes no value", row->name);
    if (row->argument != NULL && value == NULL) {
        if (self->at + 1 == self->count)
            return didi_fail(error, CLIENT_USAGE, NULL, "option --%s needs a value: %s", row->name,
                             row->argument);
        value = self->argv[++self->at];
    }
    return arguments_add(self->arguments, row->id, value, error);
}

/* Letters may be bundled; the value of the last one may follow it at once (-ojson). */
static int read_letters(reader *self, didi_error *error)
{
    for (const char *letter = self->argv[self->at] + 1; *letter != '\0'; letter++) {
        const option_row *row = option_by_letter(self->options, *letter);
        if (row == NULL)
            row = option_by_letter(self->arguments->globals, *letter);
        if (row == NULL)
            return didi_fail(error, CLIENT_USAGE, NULL, "unknown option -%c", *letter);
        const char *value = NULL;
        if (row->argument != NULL) {
            if (letter[1] != '\0') {
                value = letter + 1;
            } else if (self->at + 1 < self->count) {
                value = self->argv[++self->at];
            } else {
                return didi_fail(error, CLIENT_USAGE, NULL, "option -%c needs a value: %s", *letter,
                                 row->argument);
            }
        }
        int status = arguments_add(self->arguments, row->id, value, error);
        if (status != CLIENT_OK || row->argument != NULL)
            return status;
    }
    return CLIENT_OK;
}

int arguments_parse(client_arguments *arguments, option_table options, char *const *argv,
                    size_t count, bool stop_at_word, size_t *ret_used, didi_error *error)
{
    assert(ids_fit(options));
    reader self = {
        .arguments = arguments, .options = options, .argv = argv, .count = count, .at = 0};
    bool words_only = false;
    for (; self.at < count; self.at++) {
        const char *word = argv[self.at];
        int status;
        if (!words_only && strcmp(word, "--") == 0) {
            words_only = true;
            continue;
        }
        if (words_only || word[0] != '-' || word[1] == '\0') {
            if (stop_at_word)
                break;
            status = arguments_add(arguments, ARGUMENTS_WORD_ID, word, error);
        } else if (word[1] == '-') {
            status = read_long(&self, error);
        } else {
            status = read_letters(&self, error);
        }
        if (status != CLIENT_OK)
            return status;
    }
    *ret_used = self.at;
    return CLIENT_OK;
}

bool arguments_has(const client_arguments *arguments, int id)
{
    for (size_t i = 0; i < arguments->count; i++)
        if (arguments->entries[i].id == id)
            return true;
    return false;
}

const char *arguments_value(const client_arguments *arguments, int id)
{
    for (size_t i = arguments->count; i > 0; i--)
        if (arguments->entries[i - 1].id == id)
            return arguments->entries[i - 1].value;
    return NULL;
}

const char *arguments_each(const client_arguments *arguments, int id, size_t *cursor)
{
    while (*cursor < arguments->count) {
        const arguments_entry *entry = &arguments->entries[(*cursor)++];
        if (entry->id == id)
            return entry->value;
    }
    return NULL;
}

size_t arguments_count(const client_arguments *arguments)
{
    size_t count = 0;
    for (size_t i = 0; i < arguments->count; i++)
        count += arguments->entries[i].id == ARGUMENTS_WORD_ID ? 1 : 0;
    return count;
}

const char *arguments_at(const client_arguments *arguments, size_t index)
{
    size_t cursor = 0;
    const char *word = arguments_each(arguments, ARGUMENTS_WORD_ID, &cursor);
    for (; word != NULL && index > 0; index--)
        word = arguments_each(arguments, ARGUMENTS_WORD_ID, &cursor);
    return word;
}
