/* SPDX-License-Identifier: Apache-2.0 */
/* Keys are read anew whenever they are needed again, so that files may be replaced. */
#include "daemon/s3/credentials.h"

#include "daemon/base/base.h"
#include "daemon/s3/sign.h"

#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    INSTANCE_SECONDS_MAX = 5,
    INSTANCE_BYTES_MAX = 16384,
    INSTANCE_TOKEN_SECONDS = 300,
};

/* AWS_EC2_METADATA_SERVICE_ENDPOINT takes its place, as with other clients. */
static const char instance_endpoint[] = "http://169.254.169.254";
static const char roles[] = "/latest/meta-data/iam/security-credentials/";

int64_t credentials_time(const char *text)
{
    struct tm parts = {0};
    const char *end = strptime(text, "%Y-%m-%dT%H:%M:%S", &parts);
    if (end == NULL)
        return 0;
    if (*end == '.')
        end += 1 + strspn(end + 1, "0123456789");
    return strcmp(end, "Z") == 0 || strcmp(end, "+00:00") == 0 ? (int64_t)timegm(&parts) : 0;
}

static bool take(char *target, size_t bytes, const char *value)
{
    for (const char *at = value; *at != '\0'; at++)
        if (*at <= ' ' || *at > '~')
            return false;
    return snprintf(target, bytes, "%s", value) < (int)bytes;
}

/* False: the value cannot be used. */
static bool take_key(credentials *self, const char *key, const char *value)
{
    if (strcmp(key, "aws_access_key_id") == 0)
        return take(self->id, sizeof self->id, value);
    if (strcmp(key, "aws_secret_access_key") == 0)
        return take(self->secret, sizeof self->secret, value);
    if (strcmp(key, "aws_session_token") == 0 || strcmp(key, "aws_security_token") == 0)
        return take(self->token, sizeof self->token, value);
    if (strcmp(key, "expiration") == 0 || strcmp(key, "aws_expiration") == 0) {
        self->ends = credentials_time(value);
        return self->ends > 0;
    }
    return true; /* others are for other programs */
}

int credentials_parse(const char *text, credentials *ret_credentials, didi_error *error)
{
    static const char setting[] = "s3_credentials_file";
    credentials found = {0};
    bool is_ours = true;
    char *copy = memory_string(text);
    char *rest = copy;
    int status = copy != NULL ? DIDI_OK : didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    for (unsigned number = 1; status == DIDI_OK && rest != NULL; number++) {
        char *line = text_trim(strsep(&rest, "\n"));
        char *equals = strchr(line, '=');
        if (line[0] == '[') {
            is_ours = strcmp(line, "[default]") == 0;
        } else if (line[0] != '\0' && line[0] != '#' && line[0] != ';' && is_ours) {
            if (equals != NULL)
                *equals = '\0';
            if (equals == NULL || !take_key(&found, text_trim(line), text_trim(equals + 1)))
                status = didi_fail(error, DIDI_INVALID, setting, "line %u cannot be used", number);
        }
    }
    free(copy);
    if (status == DIDI_OK && (found.id[0] == '\0' || found.secret[0] == '\0'))
        status = didi_fail(error, DIDI_INVALID, setting,
                           "the file has no aws_access_key_id and aws_secret_access_key, or not "
                           "below [default]");
    if (status == DIDI_OK)
        *ret_credentials = found;
    return status;
}

static bool take_member(char *target, size_t bytes, const json_t *object, const char *name)
{
    const char *value = json_string_value(json_object_get(object, name));
    return value != NULL && value[0] != '\0' && take(target, bytes, value);
}

int credentials_parse_instance(const char *text, size_t bytes, credentials *ret_credentials,
                               didi_error *error)
{
    credentials found = {0};
    json_t *answer = json_load(text, bytes, JSON_REJECT_DUPLICATES, NULL, NULL);
    const char *ends = json_string_value(json_object_get(answer, "Expiration"));
    bool good = take_member(found.id, sizeof found.id, answer, "AccessKeyId") &&
                take_member(found.secret, sizeof found.secret, answer, "SecretAccessKey") &&
                take_member(found.token, sizeof found.token, answer, "Token");
    found.ends = ends != NULL ? credentials_time(ends) : 0;
    json_decref(answer);
    if (!good || found.ends == 0)
        return didi_fail(error, DIDI_FORMAT, "s3_metadata",
                         "the metadata service gave no credentials that can be used");
    *ret_credentials = found;
    return DIDI_OK;
}

/* ---- the instance ---- */

typedef struct instance_text {
    char bytes[INSTANCE_BYTES_MAX];
    size_t used;
} instance_text;

static size_t text_arrived(char *data, size_t size, size_t count, void *context)
{
    instance_text *self = context;
    const size_t bytes = size * count;
    if (bytes >= sizeof self->bytes - self->used)
        return 0;
    memcpy(self->bytes + self->used, data, bytes);
    self->used += bytes;
    self->bytes[self->used] = '\0';
    return bytes;
}

/* `header` is sent; `put` asks for a token. */
static int instance_ask(const char *url, const char *header, bool put, instance_text *ret_text,
                        didi_error *error)
{
    long code = 0;
    CURL *easy = curl_easy_init();
    struct curl_slist *headers = curl_slist_append(NULL, header);
    CURLcode result = CURLE_OUT_OF_MEMORY;
    ret_text->used = 0;
    ret_text->bytes[0] = '\0';
    if (easy != NULL && headers != NULL) {
        curl_easy_setopt(easy, CURLOPT_URL, url);
        curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http");
        curl_easy_setopt(easy, CURLOPT_PROXY, "");
        curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
        curl_easy_setopt(easy, CURLOPT_TIMEOUT, (long)INSTANCE_SECONDS_MAX);
        curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers);
        curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, text_arrived);
        curl_easy_setopt(easy, CURLOPT_WRITEDATA, ret_text);
        if (put)
            curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, "PUT");
        result = curl_easy_perform(easy);
        curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &code);
    }
    curl_slist_free_all(headers);
    curl_easy_cleanup(easy);
    if (result != CURLE_OK)
        return didi_fail(error, DIDI_STORAGE, "s3_metadata", "the metadata service: %s",
                         curl_easy_strerror(result));
    if (code != 200)
        return didi_fail(error, DIDI_STORAGE, "s3_metadata", "the metadata service answered %ld%s",
                         code, code == 404 ? ": the instance has no role" : "");
    return DIDI_OK;
}

static int find_instance(credentials *ret_credentials, didi_error *error)
{
    const char *given = getenv("AWS_EC2_METADATA_SERVICE_ENDPOINT");
    const char *endpoint = given != NULL && given[0] != '\0' ? given : instance_endpoint;
    char url[1024];
    char header[INSTANCE_BYTES_MAX + 64];
    instance_text *text = memory_zeroed(1, sizeof *text);
    if (text == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    (void)snprintf(url, sizeof url, "%.200s/latest/api/token", endpoint);
    (void)snprintf(header, sizeof header, "X-aws-ec2-metadata-token-ttl-seconds: %d",
                   (int)INSTANCE_TOKEN_SECONDS);
    int status = instance_ask(url, header, true, text, error);
    if (status == DIDI_OK) {
        text->bytes[strcspn(text->bytes, "\r\n")] = '\0';
        (void)snprintf(header, sizeof header, "X-aws-ec2-metadata-token: %s", text->bytes);
        (void)snprintf(url, sizeof url, "%.200s%s", endpoint, roles);
        status = instance_ask(url, header, false, text, error);
    }
    if (status == DIDI_OK) {
        text->bytes[strcspn(text->bytes, "\r\n")] = '\0';
        char *role = sign_encode(text->bytes, false);
        (void)snprintf(url, sizeof url, "%.200s%s%.700s", endpoint, roles,
                       role != NULL ? role : "");
        free(role);
        status = instance_ask(url, header, false, text, error);
    }
    if (status == DIDI_OK)
        status = credentials_parse_instance(text->bytes, text->used, ret_credentials, error);
    free(text);
    return status;
}

static int find_environment(credentials *ret_credentials, bool *ret_found, didi_error *error)
{
    const char *id = getenv("AWS_ACCESS_KEY_ID");
    const char *secret = getenv("AWS_SECRET_ACCESS_KEY");
    const char *token = getenv("AWS_SESSION_TOKEN");
    credentials found = {0};
    *ret_found = id != NULL && secret != NULL && id[0] != '\0' && secret[0] != '\0';
    if (!*ret_found)
        return DIDI_OK;
    if (!take(found.id, sizeof found.id, id) || !take(found.secret, sizeof found.secret, secret) ||
        (token != NULL && !take(found.token, sizeof found.token, token)))
        return didi_fail(error, DIDI_INVALID, "AWS_ACCESS_KEY_ID",
                         "the credentials in the environment cannot be used");
    *ret_credentials = found;
    return DIDI_OK;
}

int credentials_find(const char *place, bool metadata, credentials *ret_credentials,
                     didi_error *error)
{
    bool found = false;
    char *text = NULL;
    if (place != NULL) {
        int status = secret_read("s3_credentials_file", place, &text, error);
        if (status == DIDI_OK)
            status = credentials_parse(text, ret_credentials, error);
        free(text);
        return status;
    }
    int status = find_environment(ret_credentials, &found, error);
    if (status != DIDI_OK || found)
        return status;
    if (metadata)
        return find_instance(ret_credentials, error);
    return didi_fail(error, DIDI_INVALID, "s3_credentials_file",
                     "there are no credentials for S3: s3_credentials_file, AWS_ACCESS_KEY_ID and "
                     "AWS_SECRET_ACCESS_KEY in the environment, or s3_metadata");
}
