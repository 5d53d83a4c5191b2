/* SPDX-License-Identifier: Apache-2.0 */
/* Words of a command. There is no shell, and what would look like its words is refused. */
#include "daemon/process/command.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int split(command *self, const char *what, didi_error *error)
{
    char *rest = NULL;
    if (strpbrk(self->text, "\"'`\\\n") != NULL)
        return didi_fail(error, DIDI_INVALID, NULL,
                         "the %s '%s' holds a quote, a backslash or a line's end: it is split at "
                         "spaces, by no shell; put what needs them into a script",
                         what, self->text);
    for (char *word = strtok_r(self->text, " \t", &rest); word != NULL;
         word = strtok_r(NULL, " \t", &rest)) {
        if (self->count == COMMAND_WORDS_MAX)
            return didi_fail(error, DIDI_INVALID, NULL, "the %s has more than %d words", what,
                             COMMAND_WORDS_MAX);
        self->words[self->count++] = word;
    }
    return self->count > 0 ? DIDI_OK
                           : didi_fail(error, DIDI_INVALID, NULL, "the %s has no words", what);
}

/* True and *ret_path fresh, or NULL when out of memory, if there is such a file. */
static bool try_place(const char *directory, size_t length, const char *name, char **ret_path)
{
    struct stat found;
    char *path = memory_format("%.*s/%s", (int)length, directory, name);
    bool is = path == NULL || (stat(path, &found) == 0 && S_ISREG(found.st_mode));
    if (is)
        *ret_path = path;
    else
        free(path);
    return is;
}

static bool find_in_path(const char *name, char **ret_path)
{
    const char *path = getenv("PATH");
    for (const char *at = path != NULL ? path : "/usr/local/bin:/usr/bin:/bin"; at != NULL;) {
        size_t length = strcspn(at, ":");
        if (length > 0 && at[0] == '/' && try_place(at, length, name, ret_path))
            return true;
        at = at[length] == ':' ? at + length + 1 : NULL;
    }
    return false;
}

/* Links stay: a Python knows its environment by the name that it is called by. */
static int find(command *self, const char *what, didi_error *error)
{
    const char *name = self->words[0];
    char *here = NULL;
    bool found = false;
    if (name[0] == '/') {
        found = try_place("", 0, name + 1, &self->program);
    } else if (strchr(name, '/') != NULL) {
        here = getcwd(NULL, 0);
        if (here == NULL)
            return didi_fail_errno(error, errno, name, "cannot tell where %s is", name);
        found = try_place(here, strlen(here), name, &self->program);
        free(here);
    } else {
        found = find_in_path(name, &self->program);
    }
    if (!found)
        return didi_fail(error, DIDI_NOT_FOUND, NULL, "there is no program %s, the %s", name, what);
    if (self->program == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    if (access(self->program, X_OK) != 0)
        return didi_fail(error, DIDI_INVALID, NULL, "%s, the %s, is not executable", self->program,
                         what);
    return DIDI_OK;
}

int command_split(const char *text, const char *what, command *ret_command, didi_error *error)
{
    *ret_command = (command){.text = memory_string(text)};
    if (ret_command->text == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    return split(ret_command, what, error);
}

int command_read(const char *text, const char *what, command *ret_command, didi_error *error)
{
    int status = command_split(text, what, ret_command, error);
    return status == DIDI_OK ? find(ret_command, what, error) : status;
}

void command_clear(command *self)
{
    free(self->text);
    free(self->program);
    *self = (command){0};
}
