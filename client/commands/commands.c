/* SPDX-License-Identifier: Apache-2.0 */
/* The list of all commands. */
#include "client/base/base.h"
#include "client/commands/about.h"
#include "client/commands/command.h"
#include "client/commands/extend.h"
#include "client/commands/follow.h"
#include "client/commands/jobs.h"
#include "client/commands/models.h"
#include "client/commands/pull.h"
#include "client/commands/results.h"
#include "client/commands/submit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const client_command *const commands[] = {
    &command_model_list, &command_model_show, &command_model_rescan, &command_submit,
    &command_extend,     &command_plan,       &command_jobs,         &command_show,
    &command_watch,      &command_wait,       &command_cancel,       &command_retry,
    &command_rm,         &command_events,     &command_ranks,        &command_frontier,
    &command_similarity, &command_pull,       &command_version,      &command_completion,
};

const client_command *const *command_list(size_t *ret_count)
{
    *ret_count = sizeof commands / sizeof commands[0];
    return commands;
}

const client_command *command_find(char *const *words, size_t count, size_t *ret_words)
{
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        const char *name = commands[i]->name;
        const char *space = strchr(name, ' ');
        size_t first = space != NULL ? (size_t)(space - name) : strlen(name);
        if (count == 0 || strlen(words[0]) != first || strncmp(words[0], name, first) != 0)
            continue;
        if (space == NULL || (count > 1 && strcmp(words[1], space + 1) == 0)) {
            *ret_words = space == NULL ? 1 : 2;
            return commands[i];
        }
    }
    return NULL;
}

int command_integer(const command_context *context, int id, const char *name, long minimum,
                    long maximum, long fallback, long *ret_value, didi_error *error)
{
    const char *text = arguments_value(context->arguments, id);
    if (text == NULL) {
        *ret_value = fallback;
        return CLIENT_OK;
    }
    char *end = NULL;
    errno = 0;
    long value = strtol(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || value < minimum || value > maximum)
        return didi_fail(error, CLIENT_USAGE, name, "'%s' is not a whole number from %ld", text,
                         minimum);
    *ret_value = value;
    return CLIENT_OK;
}

const char *command_version_text(void)
{
    return DIDICTL_VERSION;
}
