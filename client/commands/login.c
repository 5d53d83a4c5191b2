/* SPDX-License-Identifier: Apache-2.0 */
/* login, logout. */
#include "client/commands/command.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

enum { LOGIN_TOKEN_BYTES = 1024 };

/* One line of stdin, or less at its end. */
static int read_line(const command_context *context, char text[LOGIN_TOKEN_BYTES],
                     didi_error *error)
{
    struct pollfd events[2] = {{.fd = STDIN_FILENO, .events = POLLIN},
                               {.fd = interrupt_descriptor(context->interrupt), .events = POLLIN}};
    size_t used = 0;
    while (used < LOGIN_TOKEN_BYTES) {
        if (poll(events, 2, -1) < 0 && errno != EINTR)
            return didi_fail(error, CLIENT_FAILURE, "stdin", "%s", strerror(errno));
        if (interrupt_seen(context->interrupt))
            return interrupt_fail(error);
        if (events[0].revents == 0)
            continue;
        ssize_t got = read(STDIN_FILENO, text + used, 1);
        if (got < 0)
            return didi_fail(error, CLIENT_FAILURE, "stdin", "%s", strerror(errno));
        if (got == 0 || text[used] == '\n') {
            text[used] = '\0';
            return CLIENT_OK;
        }
        used++;
    }
    return didi_fail(error, CLIENT_USAGE, "stdin", "no token is that long");
}

static int read_token(const command_context *context, char text[LOGIN_TOKEN_BYTES],
                      didi_error *error)
{
    struct termios before;
    bool terminal = tcgetattr(STDIN_FILENO, &before) == 0;
    if (terminal) {
        struct termios silent = before;
        silent.c_lflag &= ~(tcflag_t)ECHO;
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &silent); /* first: it drops what was typed before */
        fputs("Token: ", stderr);
    }
    int status = read_line(context, text, error);
    if (terminal) {
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &before);
        fputc('\n', stderr);
    }
    return status;
}

/* What a server is called unless the user says: its host and port. */
static void default_name(const char *host, char ret_name[CONTEXT_NAME_BYTES_MAX + 1])
{
    const char *begin = strstr(host, "://");
    size_t used = 0;
    if (begin == NULL) {
        (void)snprintf(ret_name, CONTEXT_NAME_BYTES_MAX + 1, "local");
        return;
    }
    for (begin += 3; *begin != '\0' && *begin != '/' && used < CONTEXT_NAME_BYTES_MAX; begin++)
        if (*begin != '[' && *begin != ']')
            ret_name[used++] = *begin;
    ret_name[used] = '\0';
}

/* Asks the server whom it takes the token for. */
static int check(const command_context *context, const client_settings *settings,
                 json_t **ret_identity, didi_error *error)
{
    client_service *service = NULL;
    int status = service_open(settings, context->interrupt, &service, error);
    if (status == CLIENT_OK)
        status = service_get(service, 0, ret_identity, error, "/v1/whoami");
    service_close(service);
    return status;
}

static int run_login(const command_context *context, didi_error *error)
{
    const client_settings *given = context->settings;
    client_settings settings = {.timeout_seconds = given->timeout_seconds};
    const char *url = arguments_word(context->arguments, 0);
    const char *name = arguments_value(context->arguments, OPTION_NAME);
    char chosen[CONTEXT_NAME_BYTES_MAX + 1];
    char text[LOGIN_TOKEN_BYTES] = "";
    json_t *identity = NULL;
    int status = settings_set_host(&settings, url != NULL ? url : given->host, "URL", error);
    if (status != CLIENT_OK)
        return status;
    default_name(settings.host, chosen);
    name = name != NULL ? name : chosen;
    if (!context_name_is_valid(name))
        status = didi_fail(error, CLIENT_USAGE, "--name", "not the name of a context");
    /* Whole, for the context is used from other directories too. */
    if (status == CLIENT_OK && given->ca_file != NULL &&
        (settings.ca_file = realpath(given->ca_file, NULL)) == NULL)
        status = didi_fail(error, CLIENT_USAGE, "--ca-file", "cannot find %s: %s", given->ca_file,
                           strerror(errno));
    if (status == CLIENT_OK)
        status = read_token(context, text, error);
    if (status == CLIENT_OK)
        status = settings_set_token(&settings, text_trim(text), "stdin", error);
    if (status == CLIENT_OK)
        status = settings_check_token(&settings, error);
    if (status == CLIENT_OK)
        status = check(context, &settings, &identity, error);
    if (status == CLIENT_OK)
        status = contexts_put(given->path,
                              &(client_server){.name = name,
                                               .host = settings.host,
                                               .token = settings.token,
                                               .ca_file = settings.ca_file},
                              error);
    if (status == CLIENT_OK)
        output_note(context->output, "logged in to %s as %s, scope %s", settings.host,
                    record_text(identity, "name"), record_text(identity, "scope"));
    explicit_bzero(text, sizeof text);
    json_decref(identity);
    settings_clear(&settings);
    return status;
}

static int run_logout(const command_context *context, didi_error *error)
{
    const char *name = context->settings->context;
    if (name == NULL)
        return didi_fail(error, CLIENT_USAGE, NULL, "no context is in use");
    return contexts_log_out(context->settings->path, name, error);
}

static const option_row login_options[] = {
    {OPTION_NAME, 0, "name", "NAME", "what to call the server (its host and port)"}};

const client_command command_login = {
    .name = "login",
    .words = "[URL]",
    .summary = "keep a token for a server",
    .text = "Reads the token from the terminal without showing it, or from stdin, asks the server\n"
            "about it, and writes it to the configuration file, which others cannot read.\n",
    .options = COMMAND_OPTIONS(login_options),
    .run = run_login,
};
const client_command command_logout = {
    .name = "logout",
    .words = "",
    .summary = "forget the token of the server in use",
    .run = run_logout,
};
