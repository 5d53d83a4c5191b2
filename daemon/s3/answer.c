/* SPDX-License-Identifier: Apache-2.0 */
/* XML by expat. A document with a document type is refused, so that there are no entities. */
#include "daemon/s3/answer.h"

#include <assert.h>
#include <expat.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

enum { DEPTH_MAX = 8, NAME_BYTES = 64 };

typedef struct reading {
    XML_Parser parser;
    answer_visit *visit;
    void *context;
    didi_error *error;
    int status;
    size_t depth, used;
    bool is_leaf;
    char names[DEPTH_MAX][NAME_BYTES];
    char text[ANSWER_TEXT_BYTES];
} reading;

static void stop(reading *self, int status)
{
    self->status = status;
    (void)XML_StopParser(self->parser, XML_FALSE);
}

static void XMLCALL on_start(void *context, const char *name, const char **attributes)
{
    reading *self = context;
    (void)attributes;
    if (self->depth == DEPTH_MAX) {
        stop(self, didi_fail(self->error, DIDI_FORMAT, NULL, "the answer is too deep"));
        return;
    }
    (void)snprintf(self->names[self->depth++], NAME_BYTES, "%s", name);
    self->used = 0;
    self->is_leaf = true;
}

static void XMLCALL on_text(void *context, const char *text, int bytes)
{
    reading *self = context;
    if (self->status != DIDI_OK || !self->is_leaf)
        return;
    if ((size_t)bytes >= sizeof self->text - self->used) {
        stop(self, didi_fail(self->error, DIDI_FORMAT, NULL, "a text of the answer is too long"));
        return;
    }
    memcpy(self->text + self->used, text, (size_t)bytes);
    self->used += (size_t)bytes;
}

static void XMLCALL on_end(void *context, const char *name)
{
    reading *self = context;
    (void)name;
    if (self->status != DIDI_OK)
        return;
    self->depth--;
    if (self->is_leaf) {
        self->text[self->used] = '\0';
        int status = self->visit(self->context, self->depth > 0 ? self->names[self->depth - 1] : "",
                                 self->names[self->depth], self->text, self->error);
        if (status != DIDI_OK)
            stop(self, status);
    }
    self->is_leaf = false;
}

static void XMLCALL on_doctype(void *context, const char *name, const char *system_id,
                               const char *public_id, int has_subset)
{
    reading *self = context;
    (void)name;
    (void)system_id;
    (void)public_id;
    (void)has_subset;
    stop(self, didi_fail(self->error, DIDI_FORMAT, NULL, "the answer has a document type"));
}

int answer_read(const char *document, size_t bytes, answer_visit *visit, void *context,
                didi_error *error)
{
    didi_error own = {0};
    reading self = {.parser = XML_ParserCreate("UTF-8"),
                    .visit = visit,
                    .context = context,
                    .error = error != NULL ? error : &own};
    assert(visit != NULL);
    if (self.parser == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    if (bytes > ANSWER_BYTES_MAX) {
        self.status = didi_fail(self.error, DIDI_FORMAT, NULL, "the answer is too long");
    } else {
        XML_SetUserData(self.parser, &self);
        XML_SetElementHandler(self.parser, on_start, on_end);
        XML_SetCharacterDataHandler(self.parser, on_text);
        XML_SetStartDoctypeDeclHandler(self.parser, on_doctype);
        const enum XML_Status parsed = XML_Parse(self.parser, document, (int)bytes, XML_TRUE);
        const enum XML_Error code = XML_GetErrorCode(self.parser);
        if (self.status == DIDI_OK && parsed != XML_STATUS_OK)
            self.status = code == XML_ERROR_NO_MEMORY
                              ? didi_fail(self.error, DIDI_NO_MEMORY, NULL, "out of memory")
                              : didi_fail(self.error, DIDI_FORMAT, NULL,
                                          "the answer is not XML: %s", XML_ErrorString(code));
    }
    XML_ParserFree(self.parser);
    return self.status;
}

static int take_failure(void *context, const char *parent, const char *name, const char *text,
                        didi_error *error)
{
    answer_failure *self = context;
    (void)error;
    if (strcmp(parent, "Error") != 0)
        return DIDI_OK;
    if (strcmp(name, "Code") == 0)
        text_copy_printable(self->code, sizeof self->code, text);
    else if (strcmp(name, "Message") == 0)
        text_copy_printable(self->message, sizeof self->message, text);
    return DIDI_OK;
}

void answer_read_failure(const char *document, size_t bytes, answer_failure *ret_failure)
{
    answer_failure found = {0};
    /* What came before the document broke is better than nothing. */
    (void)answer_read(document, bytes, take_failure, &found, NULL);
    *ret_failure = found;
}
