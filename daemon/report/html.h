/* SPDX-License-Identifier: Apache-2.0 */
/* Texts and numbers into HTML. */
#pragma once

#include "src/base/base.h"

#include <jansson.h>
#include <stdio.h>

/* Text between tags or inside quotes; what has no shape of its own as "\u{...}". NULL is "-". */
void html_text(FILE *out, const char *text);

/* Text of several lines, which stay lines. */
void html_lines(FILE *out, const char *text);

/* A JSON text for a <script> of data: the same JSON, where no character can end the element or turn
 * the direction of what a reader of the source sees. */
void html_data(FILE *out, const char *json);

/* "444,057"; "-" where there is none. */
void html_bytes(FILE *out, const json_t *bytes);

/* A number of `digits` digits; "-" where there is none. */
void html_number(FILE *out, const json_t *number, int digits);

/* The member of an object as text, or NULL. */
const char *html_member(const json_t *object, const char *key);
