/* SPDX-License-Identifier: Apache-2.0 */
/* Where results and remarks go: data to stdout in the format asked for, messages to stderr. */
#pragma once

#include "client/base/base.h"
#include "client/view/table.h"
#include "src/base/base.h"

#include <jansson.h>
#include <stdbool.h>

typedef struct client_output client_output;

/* `settings` must outlive the object. NULL when out of memory. */
client_output *output_create(const client_settings *settings);
void output_free(client_output *output);

/* True when escape sequences are welcome on stdout. */
bool output_color(const client_output *output);

/* True when results may be animated: stdout is a terminal, and not a dumb one. */
bool output_animates_results(const client_output *output);

/* True when messages may be: stderr is such a terminal and quiet was not asked. */
bool output_animates_messages(const client_output *output);

/* Prints one document: indented for json and table, one line for jsonl. Errors: CLIENT_FAILURE. */
int output_json(client_output *output, const json_t *document, didi_error *error);

/* Prints an array, or one object, as json, jsonl or, where the format is name, the member
 * `name_key` of each alone; without such a member (NULL) as one document. */
int output_records(client_output *output, const json_t *records, const char *name_key,
                   didi_error *error);

/* Prints one document as a line of its own and flushes, for streams. */
int output_line(client_output *output, const json_t *document, didi_error *error);

/* Prints foreign text as a line, fit to be shown. Errors: CLIENT_FAILURE. */
int output_text(client_output *output, const char *text, didi_error *error);

/* Prints and frees the table. */
int output_table(client_output *output, client_table *table, didi_error *error);

/* A remark on stderr, unless quiet. */
void output_note(const client_output *output, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Flushes stdout. Errors: CLIENT_FAILURE (disk full, closed pipe). */
int output_finish(client_output *output, didi_error *error);
