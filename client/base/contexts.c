/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration file as a list of servers. */
#include "client/base/contexts.h"

#include "client/base/exit_code.h"
#include "client/base/record.h"
#include "src/base/base.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CONTEXTS_FILE_BYTES_MAX = 1 << 20 };

bool context_name_is_valid(const char *name)
{
    return record_is_word(name, CONTEXT_NAME_BYTES_MAX, "._-:");
}

char *context_heading(char *line)
{
    char *text = text_trim(line);
    size_t bytes = strlen(text);
    if (bytes < 2 || text[0] != '[' || text[bytes - 1] != ']')
        return NULL;
    text[bytes - 1] = '\0';
    return text + 1;
}

/* What a rewritten file lacks and gets. */
typedef struct contexts_edit {
    const char *section;         /* to leave out whole, or */
    const char *token_of;        /* to leave out the token of */
    bool current;                /* leave out which one is meant */
    const char *use;             /* which one is meant from now on; may be NULL */
    const client_server *server; /* to add; may be NULL */
    bool found;                  /* set: there is such a section */
} contexts_edit;

static bool has_key(const char *line, const char *key)
{
    size_t bytes = strlen(key);
    line += strspn(line, " \t");
    return strncmp(line, key, bytes) == 0 && line[bytes + strspn(line + bytes, " \t")] == '=';
}

static int read_text(const char *path, char **ret_text, didi_error *error)
{
    size_t bytes = 0;
    didi_error found = {0};
    int status = file_read_text(AT_FDCWD, path, CONTEXTS_FILE_BYTES_MAX, ret_text, &bytes, &found);
    if (status == DIDI_NOT_FOUND)
        *ret_text = memory_string("");
    else if (status != DIDI_OK)
        return didi_fail(error, CLIENT_FAILURE, path, "%s", found.message);
    return *ret_text != NULL ? CLIENT_OK : client_fail_memory(error);
}

/* Copies the lines that stay. `text` is cut up. */
static void copy_lines(char *text, contexts_edit *edit, FILE *into)
{
    char section[CONTEXT_NAME_BYTES_MAX + 1] = "";
    for (char *line = text; line != NULL && *line != '\0';) {
        char *next = strchr(line, '\n');
        if (next != NULL)
            *next++ = '\0';
        char copy[CONTEXT_NAME_BYTES_MAX + 3];
        bool whole = snprintf(copy, sizeof copy, "%s", line) < (int)sizeof copy;
        const char *name = whole ? context_heading(copy) : NULL;
        if (name != NULL)
            (void)snprintf(section, sizeof section, "%s", name);
        bool ours = edit->section != NULL && strcmp(section, edit->section) == 0;
        bool tokens = edit->token_of != NULL && strcmp(section, edit->token_of) == 0;
        edit->found =
            edit->found || ours || tokens || (edit->use != NULL && strcmp(section, edit->use) == 0);
        bool gone = ours || (tokens && has_key(line, "token")) ||
                    (edit->current && section[0] == '\0' && has_key(line, "context"));
        if (!gone)
            fprintf(into, "%s\n", line);
        line = next;
    }
}

static int make_parents(const char *path, didi_error *error)
{
    char *copy = memory_string(path);
    if (copy == NULL)
        return client_fail_memory(error);
    int status = CLIENT_OK;
    for (char *slash = strchr(copy + 1, '/'); status == CLIENT_OK && slash != NULL;
         slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(copy, 0700) != 0 && errno != EEXIST)
            status = didi_fail(error, CLIENT_FAILURE, copy, "%s", strerror(errno));
        *slash = '/';
    }
    free(copy);
    return status;
}

/* Temporary name, fsync, rename: whole or as it was. mkstemp(3) makes it 0600. */
static int replace_file(const char *path, const char *text, size_t bytes, didi_error *error)
{
    int status = make_parents(path, error);
    char *temporary = status == CLIENT_OK ? memory_format("%s.XXXXXX", path) : NULL;
    if (status != CLIENT_OK || temporary == NULL)
        return status != CLIENT_OK ? status : client_fail_memory(error);
    int fd = mkstemp(temporary);
    didi_error failed = {0};
    if (fd < 0) {
        status = didi_fail(error, CLIENT_FAILURE, path, "%s", strerror(errno));
    } else if (file_pwrite_all(fd, text, bytes, 0, path, &failed) != DIDI_OK ||
               file_sync(fd, path, &failed) != DIDI_OK ||
               file_rename(AT_FDCWD, temporary, AT_FDCWD, path, &failed) != DIDI_OK) {
        status = didi_fail(error, CLIENT_FAILURE, path, "%s", failed.message);
        unlink(temporary);
    }
    file_close(fd);
    free(temporary);
    return status;
}

static void write_server(const client_server *server, FILE *into)
{
    fprintf(into, "\n[%s]\nhost = %s\n", server->name, server->host);
    if (server->ca_file != NULL)
        fprintf(into, "ca_file = %s\n", server->ca_file);
    if (server->token != NULL)
        fprintf(into, "token = %s\n", server->token);
}

/* With `must_exist`, a section that is not there is an error. */
static int rewrite(const char *path, contexts_edit *edit, const char *must_exist, didi_error *error)
{
    char *old = NULL;
    char *text = NULL;
    size_t bytes = 0;
    if (path == NULL)
        return didi_fail(error, CLIENT_USAGE, NULL, "neither HOME nor XDG_CONFIG_HOME is set");
    int status = read_text(path, &old, error);
    if (status != CLIENT_OK)
        return status;
    text_stream *stream = text_stream_open();
    if (stream == NULL) {
        free(old);
        return client_fail_memory(error);
    }
    FILE *into = text_stream_file(stream);
    if (edit->use != NULL)
        fprintf(into, "context = %s\n", edit->use);
    copy_lines(old, edit, into);
    if (edit->server != NULL)
        write_server(edit->server, into);
    text = text_stream_close(stream, &bytes);
    if (text == NULL)
        status = client_fail_memory(error);
    else if (must_exist != NULL && !edit->found)
        status = didi_fail(error, CLIENT_USAGE, must_exist, "there is no context of this name");
    else
        status = replace_file(path, text, bytes, error);
    free(text);
    free(old);
    return status;
}

int contexts_put(const char *path, const client_server *server, didi_error *error)
{
    contexts_edit edit = {
        .section = server->name, .current = true, .use = server->name, .server = server};
    return rewrite(path, &edit, NULL, error);
}

int contexts_use(const char *path, const char *name, didi_error *error)
{
    contexts_edit edit = {.current = true, .use = name};
    return rewrite(path, &edit, name, error);
}

int contexts_remove(const char *path, const char *name, bool is_current, didi_error *error)
{
    contexts_edit edit = {.section = name, .current = is_current};
    return rewrite(path, &edit, name, error);
}

int contexts_log_out(const char *path, const char *name, didi_error *error)
{
    contexts_edit edit = {.token_of = name};
    return rewrite(path, &edit, name, error);
}

int contexts_each(const char *path,
                  void (*visit)(void *context, const char *name, const char *host, bool has_token),
                  void *context, didi_error *error)
{
    char *text = NULL;
    const char *name = NULL;
    const char *host = "";
    bool has_token = false;
    int status = path != NULL ? read_text(path, &text, error) : CLIENT_OK;
    for (char *line = text; status == CLIENT_OK && line != NULL && *line != '\0';) {
        char *next = strchr(line, '\n');
        if (next != NULL)
            *next++ = '\0';
        bool is_host = has_key(line, "host");
        bool is_token = has_key(line, "token");
        char *heading = context_heading(line);
        if (heading != NULL) {
            if (name != NULL)
                visit(context, name, host, has_token);
            name = heading;
            host = "";
            has_token = false;
        } else if (is_host) {
            host = text_trim(strchr(line, '=') + 1);
        }
        has_token = has_token || is_token;
        line = next;
    }
    if (name != NULL)
        visit(context, name, host, has_token);
    free(text);
    return status;
}
