/* SPDX-License-Identifier: Apache-2.0 */
/* Secrets from files. */
#include "daemon/base/secret.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int secret_path(const char *setting, const char *place, char **ret_path, didi_error *error)
{
    static const char scheme[] = "credential:";
    const char *directory = getenv("CREDENTIALS_DIRECTORY");
    const char *name = place + sizeof scheme - 1;
    if (strncmp(place, scheme, sizeof scheme - 1) != 0) {
        *ret_path = memory_string(place);
    } else {
        if (directory == NULL || directory[0] != '/')
            return didi_fail(error, DIDI_INVALID, setting,
                             "%s is %.100s, but the service manager gave no credentials", setting,
                             place);
        if (name[0] == '\0' || name[0] == '.' || strchr(name, '/') != NULL)
            return didi_fail(error, DIDI_INVALID, setting, "'%.100s' names no credential", place);
        *ret_path = memory_format("%s/%s", directory, name);
    }
    return *ret_path != NULL ? DIDI_OK : didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
}

static int read_guarded(const char *setting, const char *path, char **ret_text, didi_error *error)
{
    struct stat facts;
    char *text = NULL;
    size_t bytes = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return didi_fail_errno(error, errno, setting, "cannot open %s", path);
    int status = DIDI_OK;
    if (fstat(fd, &facts) != 0)
        status = didi_fail_errno(error, errno, setting, "cannot look at %s", path);
    else if ((facts.st_mode & (S_IRWXO | S_IWGRP)) != 0)
        status = didi_fail(error, DIDI_INVALID, setting,
                           "%s holds a secret, and others can read or change it (mode %03o): "
                           "chmod 600 %s",
                           path, (unsigned)(facts.st_mode & 0777), path);
    if (status == DIDI_OK)
        status = file_read_text_fd(fd, path, SECRET_BYTES_MAX, &text, &bytes, error);
    close(fd);
    if (status == DIDI_OK && (bytes == 0 || strlen(text) != bytes)) {
        free(text);
        return didi_fail(error, DIDI_INVALID, setting, "%s %s", path,
                         bytes == 0 ? "is empty" : "holds a NUL byte");
    }
    if (status == DIDI_OK)
        *ret_text = text;
    return status;
}

int secret_read(const char *setting, const char *place, char **ret_text, didi_error *error)
{
    char *path = NULL;
    int status = secret_path(setting, place, &path, error);
    if (status == DIDI_OK)
        status = read_guarded(setting, path, ret_text, error);
    free(path);
    return status;
}

int secret_read_word(const char *setting, const char *place, char **ret_text, didi_error *error)
{
    char *text = NULL;
    int status = secret_read(setting, place, &text, error);
    if (status != DIDI_OK)
        return status;
    size_t length = strcspn(text, "\r\n");
    bool alone = strspn(text + length, "\r\n") == strlen(text + length) && length > 0;
    text[length] = '\0';
    for (size_t i = 0; i < length; i++)
        alone = alone && text[i] > ' ' && text[i] <= '~';
    if (!alone) {
        free(text);
        return didi_fail(error, DIDI_INVALID, setting, "%.200s does not hold one word alone",
                         place);
    }
    *ret_text = text;
    return DIDI_OK;
}
