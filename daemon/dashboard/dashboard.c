/* SPDX-License-Identifier: Apache-2.0 */
/* Files of the dashboard: which one, in which encoding, with which headers. */
#include "daemon/dashboard/dashboard.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

/* A file as it goes out. */
typedef struct dashboard_body {
    const char *etag;
    const unsigned char *bytes;
    size_t count;
} dashboard_body;

typedef struct dashboard_file {
    const char *name, *media_type;
    dashboard_body plain, gzip;
} dashboard_file;

#include "dashboard_files.h"

enum { DASHBOARD_FILES = sizeof dashboard_files / sizeof dashboard_files[0] };

/* The page may load and ask nothing but this server, and nobody may frame it. Nothing in it is
 * inline. */
static const char policy[] =
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
static const char forever[] = "public, max-age=31536000, immutable";

struct dashboard {
    int directory_fd; /* of dashboard_dir; -1: none */
};

int dashboard_create(const config *settings, dashboard **ret_dashboard, didi_error *error)
{
    const char *place = settings->dashboard_dir;
    dashboard *self = memory_zeroed(1, sizeof *self);
    if (self == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "no memory for the dashboard");
    self->directory_fd = -1;
    int status = place == NULL
                     ? DIDI_OK
                     : file_open_directory(AT_FDCWD, place, 0, &self->directory_fd, error);
    if (status != DIDI_OK) {
        dashboard_free(self);
        return status;
    }
    *ret_dashboard = self;
    return DIDI_OK;
}

void dashboard_free(dashboard *self)
{
    if (self == NULL)
        return;
    file_close(self->directory_fd);
    free(self);
}

/* ---- what is asked for ---- */

static const dashboard_file *file_find(const char *name)
{
    for (size_t i = 0; i < DASHBOARD_FILES; i++)
        if (strcmp(dashboard_files[i].name, name) == 0)
            return &dashboard_files[i];
    return NULL;
}

/* Cuts the digest off that index.html puts before names; true when it was there. */
static bool path_is_kept(const char **path)
{
    size_t bytes = sizeof dashboard_digest - 1;
    if (strncmp(*path, dashboard_digest, bytes) != 0 || (*path)[bytes] != '/')
        return false;
    *path += bytes + 1;
    return true;
}

/* Whether one element of Accept-Encoding, `bytes` long, takes gzip: "gzip", "gzip;q=0.5". */
static bool element_is_gzip(const char *element, size_t bytes)
{
    static const char name[] = "gzip";
    size_t length = sizeof name - 1;
    if (bytes < length || strncasecmp(element, name, length) != 0)
        return false;
    const char *end = element + bytes;
    const char *at = element + length;
    while (at < end && (*at == ' ' || *at == '\t' || *at == ';'))
        at++;
    if (at == end)
        return true;
    if (at == element + length || strncasecmp(at, "q=", 2) != 0)
        return false;
    at += 2 + strspn(at + 2, "0.");
    return at < end && *at >= '1' && *at <= '9';
}

static bool accepts_gzip(const http_request *request)
{
    const char *list = http_header(request, "Accept-Encoding");
    while (list != NULL && *list != '\0') {
        size_t bytes = strcspn(list, ",");
        if (element_is_gzip(list, bytes))
            return true;
        list += bytes + strspn(list + bytes, ", \t");
    }
    return false;
}

/* ---- replies ---- */

static void reply_guards(http_request *request)
{
    http_reply_header(request, "Content-Security-Policy", policy);
    http_reply_header(request, "Referrer-Policy", "no-referrer");
    http_reply_header(request, "Cross-Origin-Opener-Policy", "same-origin");
    http_reply_header(request, "Cross-Origin-Resource-Policy", "same-origin");
}

static void reply_nothing(http_request *request)
{
    http_reply_problem(
        request, &(http_problem){.type = PROBLEM_NOT_FOUND, .detail = "no resource has this path"});
}

static void reply_compiled(http_request *request, const char *path)
{
    bool kept = path_is_kept(&path);
    const dashboard_file *file = file_find(path);
    if (file == NULL) {
        reply_nothing(request);
        return;
    }
    bool gzip = accepts_gzip(request);
    const dashboard_body *body = gzip ? &file->gzip : &file->plain;
    const char *known = http_header(request, "If-None-Match");
    reply_guards(request);
    http_reply_header(request, "ETag", body->etag);
    http_reply_header(request, "Cache-Control", kept ? forever : "no-cache");
    http_reply_header(request, "Vary", "Accept-Encoding");
    if (known != NULL && http_etag_in_list(known, body->etag, true)) {
        http_reply_empty(request, 304);
        return;
    }
    if (gzip)
        http_reply_header(request, "Content-Encoding", "gzip");
    http_reply_static(request, 200, file->media_type, (const char *)body->bytes, body->count);
}

static const char *media_type_of(const char *name)
{
    static const char *const rows[][2] = {{".html", "text/html; charset=utf-8"},
                                          {".css", "text/css; charset=utf-8"},
                                          {".js", "text/javascript; charset=utf-8"},
                                          {".svg", "image/svg+xml"}};
    const char *ending = strrchr(name, '.');
    for (size_t i = 0; i < sizeof rows / sizeof rows[0] && ending != NULL; i++)
        if (strcmp(ending, rows[i][0]) == 0)
            return rows[i][1];
    return "application/octet-stream";
}

/* A folder after the other: the edge let no dots pass, links to folders are not followed. */
static int open_below(int directory_fd, const char *path, int *ret_fd, didi_error *error)
{
    char name[256];
    int folder_fd = -1;
    int status = DIDI_OK;
    for (const char *slash; status == DIDI_OK && (slash = strchr(path, '/')) != NULL;
         path = slash + 1) {
        (void)snprintf(name, sizeof name, "%.*s", (int)(slash - path), path);
        int fd = openat(folder_fd >= 0 ? folder_fd : directory_fd, name,
                        O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
            status = didi_fail_errno(error, errno, name, "cannot open the directory");
        file_close(folder_fd);
        folder_fd = fd;
    }
    if (status == DIDI_OK)
        status =
            file_open_beneath(folder_fd >= 0 ? folder_fd : directory_fd, path, path, ret_fd, error);
    file_close(folder_fd);
    return status;
}

/* For who works on the pages: a file of dashboard_dir as it is now. */
static void reply_from_directory(const dashboard *self, http_request *request, const char *path)
{
    didi_error error = {0};
    struct stat facts;
    int fd = -1;
    if (open_below(self->directory_fd, path, &fd, &error) != DIDI_OK || fstat(fd, &facts) != 0) {
        file_close(fd);
        reply_nothing(request);
        return;
    }
    reply_guards(request);
    http_reply_header(request, "Cache-Control", "no-store");
    http_reply_file(request, 200, media_type_of(path), fd, 0, (uint64_t)facts.st_size);
}

void dashboard_reply(const dashboard *self, http_request *request, const char *path)
{
    assert(path != NULL);
    path = path[0] == '\0' ? "index.html" : path;
    if (self->directory_fd >= 0)
        reply_from_directory(self, request, path);
    else
        reply_compiled(request, path);
}

void dashboard_redirect(http_request *request, const char *place)
{
    const char *accepted = http_header(request, "Accept");
    if (accepted == NULL || strstr(accepted, "text/html") == NULL) {
        reply_nothing(request);
        return;
    }
    http_reply_header(request, "Location", place);
    http_reply_empty(request, 302);
}
