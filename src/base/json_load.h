/* SPDX-License-Identifier: Apache-2.0 */
/* JSON text into a tree, also where memory runs out: jansson 2.14 writes past its buffer when its
 * lexer is refused memory, so that a refused allocation must end the parse at once. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

/* As json_loadb. NULL with *ret_no_memory true: an allocation was refused, and *ret_reason says
 * nothing; else *ret_reason says what is wrong with the text. Both may
 * be NULL. Nothing is left behind. [any] */
json_t *json_load(const char *text, size_t bytes, size_t flags, json_error_t *ret_reason,
                  bool *ret_no_memory);

/* An object or an array from text that the program wrote itself. NULL where `text` is NULL, is not
 * JSON, or memory ran out. [any] */
json_t *json_load_own(const char *text);
