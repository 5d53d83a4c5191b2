/* SPDX-License-Identifier: Apache-2.0 */
/* A strict pull scanner of JSON (RFC 8259) for large untrusted documents of known shape: it builds
 * no tree, so memory is bounded by what the caller keeps. Values are asked for in the order of the
 * text. */
#pragma once

#include "src/base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct json_scan json_scan;

enum { JSON_SCAN_DEPTH_MAX = 64 }; /* of values passed over by json_scan_skip */

/* Starts on text[0..bytes), which must outlive the scanner; `subject` (copied) goes into errors,
 * and `what` (static) into messages ("header", "index"). Allocates the decoded strings' space,
 * `bytes` bytes at most. Free with json_scan_free. Errors: DIDI_NO_MEMORY. */
int json_scan_new(const char *text, size_t bytes, const char *subject, const char *what,
                  json_scan **ret_scan, didi_error *error);

/* Frees the scanner and every string it gave; NULL is fine. */
void json_scan_free(json_scan *scan);

/* All below: DIDI_OK, or DIDI_FORMAT with the byte offset in the message. */

/* Enters an object ('{') or an array ('['). */
int json_scan_open(json_scan *scan, char bracket, didi_error *error);

/* True in *ret_more if another member or element follows; else the closing bracket was consumed. */
int json_scan_next(json_scan *scan, char closing, bool *ret_more, didi_error *error);

/* For loops over members or elements: true while another one follows and *status is DIDI_OK. */
bool json_scan_each(json_scan *scan, char closing, int *status, didi_error *error);

/* A string, NUL-terminated, living as long as the scanner; *ret_bytes may be NULL. One that holds
 * U+0000 is refused. */
int json_scan_string(json_scan *scan, const char **ret_text, size_t *ret_bytes, didi_error *error);

/* A member's name and the colon after it. */
int json_scan_key(json_scan *scan, const char **ret_text, size_t *ret_bytes, didi_error *error);

/* A non-negative integer below 2^64, without fraction or exponent. */
int json_scan_unsigned(json_scan *scan, uint64_t *ret_value, didi_error *error);

/* Consumes `null` if it is next. */
bool json_scan_null(json_scan *scan);

/* Passes over any value of at most JSON_SCAN_DEPTH_MAX levels. */
int json_scan_skip(json_scan *scan, didi_error *error);

/* Nothing but white space may be left. */
int json_scan_end(json_scan *scan, didi_error *error);

/* Forgets the text, which may go away now; the strings stay until json_scan_free. */
void json_scan_detach(json_scan *scan);
