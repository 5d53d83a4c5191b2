/* SPDX-License-Identifier: Apache-2.0 */
/* Reading of the command line. */
#include "daemon/base/options.h"

#include <assert.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OPTION_NAME_BYTES = 40, OPTION_FIRST = 256 /* value of the first row */ };

/* What getopt_long(3) wants to know. */
typedef struct option_table {
    struct option known[OPTIONS_ROWS_MAX + 1];
    char names[OPTIONS_ROWS_MAX][OPTION_NAME_BYTES];
} option_table;

static void table_fill(option_table *table, const option_row *rows)
{
    for (size_t i = 0; rows[i].kind != OPTION_END; i++) {
        bool bare = rows[i].kind == OPTION_FLAG || rows[i].kind == OPTION_LAST;
        assert(i < OPTIONS_ROWS_MAX && strlen(rows[i].name) < OPTION_NAME_BYTES);
        snprintf(table->names[i], OPTION_NAME_BYTES, "%s", rows[i].name);
        for (char *c = table->names[i]; *c != '\0'; c++)
            if (*c == '_')
                *c = '-';
        table->known[i] = (struct option){.name = table->names[i],
                                          .has_arg = bare ? no_argument : required_argument,
                                          .val = OPTION_FIRST + (int)i};
    }
}

static const option_row *row_find(const option_row *rows, int found)
{
    if (found >= OPTION_FIRST)
        return &rows[found - OPTION_FIRST];
    for (; rows->kind != OPTION_END; rows++)
        if (found == 1 ? rows->kind == OPTION_ARGUMENT : strcmp(rows->name, "help") == 0)
            return rows;
    return NULL;
}

static int list_append(option_list *list, const char *value)
{
    if (list->count == OPTIONS_LIST_MAX)
        return DIDI_INVALID;
    list->texts[list->count++] = value;
    return DIDI_OK;
}

static int settings_append(option_settings *settings, const char *key, const char *value)
{
    if (settings->count == OPTIONS_SETTINGS_MAX)
        return DIDI_INVALID;
    settings->keys[settings->count] = key;
    settings->values[settings->count++] = value;
    return DIDI_OK;
}

static int row_set(const option_row *row, void *into, const char *value, const char *word,
                   didi_error *error)
{
    void *field = (char *)into + row->offset;
    int status = DIDI_OK;
    if (row->kind == OPTION_FLAG || row->kind == OPTION_LAST)
        *(bool *)field = true;
    else if (row->kind == OPTION_TEXT)
        *(const char **)field = value;
    else if (row->kind == OPTION_SETTING)
        status = settings_append(field, row->name, value);
    else
        status = list_append(field, value);
    return status == DIDI_OK ? status
                             : didi_fail(error, status, NULL, "too many options at %s", word);
}

static int fail_unknown(const option_row *rows, bool option, const char *word, didi_error *error)
{
    char name[NEAREST_BYTES_MAX + 1];
    char meant[NEAREST_TEXT_BYTES];
    if (!option)
        return didi_fail(error, DIDI_INVALID, NULL, "unexpected argument %s", word);
    snprintf(name, sizeof name, "%.*s", (int)strcspn(word + 2, "="), word + 2);
    for (char *c = name; *c != '\0'; c++)
        if (*c == '-')
            *c = '_';
    nearest near = nearest_begin(name);
    for (; rows->kind != OPTION_END; rows++)
        nearest_try(&near, rows->name);
    for (char *c = near.found; *c != '\0'; c++)
        if (*c == '_')
            *c = '-';
    return didi_fail(error, DIDI_INVALID, NULL, "unknown option %s%s", word,
                     nearest_text(&near, "--", "", meant));
}

int options_read(const option_row *rows, void *into, int argc, char **argv, didi_error *error)
{
    option_table table = {0};
    table_fill(&table, rows);
    assert(optind == 1); /* getopt_long keeps its place in the process */
    bool ended = false;
    opterr = 0;
    while (optind < argc) {
        const char *word = argv[optind];
        int found = ended ? -1 : getopt_long(argc, argv, "-:h", table.known, NULL);
        ended = found == -1;
        if (ended && optind == argc)
            break;
        if (found == ':')
            return didi_fail(error, DIDI_INVALID, NULL, "a value is missing after %s", word);
        if (ended) { /* after "--" */
            word = optarg = argv[optind++];
            found = 1;
        }
        const option_row *row = found != '?' ? row_find(rows, found) : NULL;
        if (row == NULL)
            return fail_unknown(rows, found == '?' && strncmp(word, "--", 2) == 0, word, error);
        int status = row_set(row, into, optarg, word, error);
        if (status != DIDI_OK || row->kind == OPTION_LAST)
            return status;
    }
    return DIDI_OK;
}

int options_refuse(const char *program, const didi_error *error)
{
    if (error->status == DIDI_NO_MEMORY) { /* not what was asked for is wrong */
        fprintf(stderr, "%s: %s\n", program, error->message);
        return EXIT_FAILURE;
    }
    fprintf(stderr, "%s: %s; see %s --help\n", program, error->message, program);
    return OPTIONS_EXIT_USAGE;
}
