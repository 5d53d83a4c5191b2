/* SPDX-License-Identifier: Apache-2.0 */
/* Parsing of sources. */
#include "daemon/fetch/source.h"

#include "daemon/s3/s3.h"

#include <stdio.h>
#include <string.h>

static int parse_hub(const char *name, const char *text, fetch_source *self, didi_error *error)
{
    const char *at = strchr(text, '@');
    const char *slash = strchr(text, '/');
    size_t length = at != NULL ? (size_t)(at - text) : strlen(text);
    self->kind = SOURCE_HUB;
    (void)snprintf(self->repository, sizeof self->repository, "%.*s", (int)length, text);
    (void)snprintf(self->revision, sizeof self->revision, "%s", at != NULL ? at + 1 : "main");
    self->is_named_revision = at != NULL;
    bool two_at_most = slash == NULL || (at != NULL && slash > at) ||
                       strchr(slash + 1, '/') == NULL ||
                       (at != NULL && strchr(slash + 1, '/') > at);
    if (!name_is_model(text) || !two_at_most || strstr(self->repository, "--") != NULL)
        return didi_fail(error, DIDI_INVALID, "/source",
                         "'%s' is not a model of a hub: hf:ORG/NAME, or hf:ORG/NAME@REVISION",
                         text);
    if (strcmp(name, text) != 0 && (at == NULL || strcmp(name, self->repository) != 0))
        return didi_fail(error, DIDI_INVALID, "/name",
                         "a model of a hub is called as its repository: \"%s\"", text);
    return DIDI_OK;
}

static int check_name(const char *name, didi_error *error)
{
    if (strchr(name, '@') != NULL || strstr(name, "models--") != NULL)
        return didi_fail(error, DIDI_INVALID, "/name",
                         "only models of a hub have revisions and lie in its directories");
    return DIDI_OK;
}

static int parse_url(const char *name, const char *text, fetch_source *self, didi_error *error)
{
    static const char ending[] = ".safetensors";
    static const char key[] = "#sha256=";
    size_t length = strcspn(text, "#");
    size_t path = strcspn(text, "?#");
    self->kind = SOURCE_URL;
    (void)snprintf(self->text, sizeof self->text, "%.*s", (int)length, text);
    if (path < sizeof ending || strncmp(text + path - strlen(ending), ending, strlen(ending)) != 0)
        return didi_fail(error, DIDI_INVALID, "/source",
                         "a URL must be of one safetensors file: https://HOST/FILE.safetensors");
    const char *digest = text + length;
    if (digest[0] != '\0') {
        bool known = strncmp(digest, key, strlen(key)) == 0 && strlen(digest) == strlen(key) + 64 &&
                     strspn(digest + strlen(key), "0123456789abcdef") == 64;
        if (!known)
            return didi_fail(error, DIDI_INVALID, "/source",
                             "after '#' a URL may have sha256= and 64 lower-case hex digits");
        (void)snprintf(self->sha256, sizeof self->sha256, "%s", digest + strlen(key));
    }
    return check_name(name, error);
}

static int parse_s3(const char *name, const char *text, fetch_source *self, didi_error *error)
{
    char bucket[S3_BUCKET_BYTES];
    char key[S3_KEY_BYTES];
    int status = s3_parse_url(text, "/source", bucket, key, error);
    self->kind = SOURCE_S3;
    (void)snprintf(self->text, sizeof self->text, "%s", text);
    if (status == DIDI_OK && key[0] == '\0')
        status = didi_fail(error, DIDI_INVALID, "/source",
                           "a model at S3 has a prefix: s3://BUCKET/PREFIX");
    return status == DIDI_OK ? check_name(name, error) : status;
}

int source_parse(const char *name, const char *text, fetch_source *ret_source, didi_error *error)
{
    fetch_source parsed = {0};
    int status = DIDI_OK;
    if (strncmp(text, "hf:", 3) == 0) {
        status = parse_hub(name, text + 3, &parsed, error);
    } else if (strncmp(text, "https://", 8) == 0 || strncmp(text, "http://", 7) == 0) {
        status = parse_url(name, text, &parsed, error);
    } else if (strncmp(text, "s3://", 5) == 0) {
        status = parse_s3(name, text, &parsed, error);
    } else if (text[0] == '/') {
        parsed.kind = SOURCE_PATH;
        (void)snprintf(parsed.text, sizeof parsed.text, "%s", text);
    } else {
        status = didi_fail(error, DIDI_INVALID, "/source",
                           "'%.200s' is no source: hf:ORG/NAME, https://HOST/FILE.safetensors, "
                           "s3://BUCKET/PREFIX, or the path of a directory",
                           text);
    }
    if (status == DIDI_OK)
        *ret_source = parsed;
    return status;
}
