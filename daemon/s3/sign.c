/* SPDX-License-Identifier: Apache-2.0 */
/* AWS Signature Version 4, as "Authenticating Requests" of the S3 API reference says. */
#include "daemon/s3/sign.h"

#include <assert.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    DIGEST_BYTES = 32,
    DIGEST_HEX = 2 * DIGEST_BYTES + 1,
    DAY_BYTES = 8,
    KEY_BYTES_MAX = 512,
    NAMES_BYTES = 512,
    SCOPE_BYTES = 160,
};

#define ALGORITHM "AWS4-HMAC-SHA256"

void sign_time(int64_t seconds, char ret_time[SIGN_TIME_BYTES])
{
    struct tm parts;
    time_t when = (time_t)seconds;
    if (gmtime_r(&when, &parts) == NULL ||
        strftime(ret_time, SIGN_TIME_BYTES, "%Y%m%dT%H%M%SZ", &parts) != SIGN_TIME_BYTES - 1)
        (void)snprintf(ret_time, SIGN_TIME_BYTES, "19700101T000000Z");
}

char *sign_encode(const char *text, bool is_path)
{
    static const char free_ones[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                    "0123456789-._~";
    static const char digits[] = "0123456789ABCDEF";
    char *encoded = memory_zeroed(strlen(text) * 3 + 1, 1);
    char *to = encoded;
    for (const char *at = text; encoded != NULL && *at != '\0'; at++) {
        unsigned char byte = (unsigned char)*at;
        if (strchr(free_ones, *at) != NULL || (is_path && *at == '/')) {
            *to++ = *at;
        } else {
            *to++ = '%';
            *to++ = digits[byte >> 4];
            *to++ = digits[byte & 0xF];
        }
    }
    return encoded;
}

static bool keyed_digest(const void *key, size_t key_bytes, const char *text,
                         unsigned char ret_digest[DIGEST_BYTES])
{
    unsigned length = 0;
    return HMAC(EVP_sha256(), key, (int)key_bytes, (const unsigned char *)text, strlen(text),
                ret_digest, &length) != NULL &&
           length == DIGEST_BYTES;
}

/* "20130524/us-east-1/s3/aws4_request" */
static void scope_of(const sign_key *key, const char *time, char ret_scope[SCOPE_BYTES])
{
    (void)snprintf(ret_scope, SCOPE_BYTES, "%.*s/%.100s/s3/aws4_request", (int)DAY_BYTES, time,
                   key->region);
}

/* The signature of a canonical request, in hex. */
static int sign_text(const sign_key *key, const char *time, const char *canonical,
                     char ret_hex[DIGEST_HEX], didi_error *error)
{
    char scope[SCOPE_BYTES];
    char hashed[65];
    char first[KEY_BYTES_MAX];
    char day[DAY_BYTES + 1];
    char text[sizeof ALGORITHM + SIGN_TIME_BYTES + SCOPE_BYTES + sizeof hashed];
    unsigned char digest[DIGEST_BYTES];
    int status = file_sha256_bytes(canonical, strlen(canonical), hashed, error);
    if (status != DIDI_OK)
        return status;
    scope_of(key, time, scope);
    (void)snprintf(text, sizeof text, ALGORITHM "\n%s\n%s\n%s", time, scope, hashed);
    (void)snprintf(day, sizeof day, "%.*s", (int)DAY_BYTES, time);
    const int length = snprintf(first, sizeof first, "AWS4%s", key->secret);
    bool done = length > 0 && (size_t)length < sizeof first &&
                keyed_digest(first, (size_t)length, day, digest) &&
                keyed_digest(digest, sizeof digest, key->region, digest) &&
                keyed_digest(digest, sizeof digest, "s3", digest) &&
                keyed_digest(digest, sizeof digest, "aws4_request", digest) &&
                keyed_digest(digest, sizeof digest, text, digest);
    if (done)
        file_hex(digest, sizeof digest, ret_hex);
    OPENSSL_cleanse(first, sizeof first);
    OPENSSL_cleanse(digest, sizeof digest);
    return done ? DIDI_OK : didi_fail(error, DIDI_INTERNAL, NULL, "a request cannot be signed");
}

static int canonical_close(text_stream *stream, char **ret_text, didi_error *error)
{
    *ret_text = text_stream_close(stream, NULL);
    return *ret_text != NULL ? DIDI_OK : didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
}

/* Puts what every request carries among the headers, in order. */
static size_t all_headers(const sign_key *key, const sign_request *request, const char *time,
                          sign_header ret_all[SIGN_HEADERS_MAX + 4])
{
    const sign_header own[] = {{"host", request->host},
                               {"x-amz-content-sha256", request->sha256},
                               {"x-amz-date", time},
                               {"x-amz-security-token", key->token}};
    size_t count = 0;
    size_t next = 0;
    assert(request->header_count <= SIGN_HEADERS_MAX);
    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++) {
        if (own[i].value == NULL)
            continue;
        while (next < request->header_count && strcmp(request->headers[next].name, own[i].name) < 0)
            ret_all[count++] = request->headers[next++];
        ret_all[count++] = own[i];
    }
    while (next < request->header_count)
        ret_all[count++] = request->headers[next++];
    return count;
}

int sign_authorization(const sign_key *key, const sign_request *request,
                       const char time[SIGN_TIME_BYTES], char **ret_value, didi_error *error)
{
    sign_header all[SIGN_HEADERS_MAX + 4];
    char names[NAMES_BYTES] = "";
    char scope[SCOPE_BYTES];
    char hex[DIGEST_HEX];
    char *canonical = NULL;
    const size_t count = all_headers(key, request, time, all);
    text_stream *stream = text_stream_open();
    if (stream == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    FILE *file = text_stream_file(stream);
    fprintf(file, "%s\n%s\n%s\n", request->method, request->path, request->query);
    for (size_t i = 0; i < count; i++) {
        const size_t used = strlen(names);
        fprintf(file, "%s:%s\n", all[i].name, all[i].value);
        (void)snprintf(names + used, sizeof names - used, "%s%s", i > 0 ? ";" : "", all[i].name);
    }
    fprintf(file, "\n%s\n%s", names, request->sha256);
    int status = canonical_close(stream, &canonical, error);
    if (status == DIDI_OK)
        status = sign_text(key, time, canonical, hex, error);
    free(canonical);
    if (status != DIDI_OK)
        return status;
    scope_of(key, time, scope);
    *ret_value = memory_format(ALGORITHM " Credential=%s/%s,SignedHeaders=%s,Signature=%s", key->id,
                               scope, names, hex);
    return *ret_value != NULL ? DIDI_OK : didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
}

static char *target_query(const sign_key *key, const char *time, unsigned seconds)
{
    char scope[SCOPE_BYTES];
    scope_of(key, time, scope);
    char *credential = memory_format("%s/%s", key->id, scope);
    char *encoded = credential != NULL ? sign_encode(credential, false) : NULL;
    char *token = key->token != NULL ? sign_encode(key->token, false) : NULL;
    char *query = NULL;
    if (encoded != NULL && (key->token == NULL || token != NULL))
        query = memory_format("X-Amz-Algorithm=" ALGORITHM "&X-Amz-Credential=%s&X-Amz-Date=%s"
                              "&X-Amz-Expires=%u%s%s&X-Amz-SignedHeaders=host",
                              encoded, time, seconds, token != NULL ? "&X-Amz-Security-Token=" : "",
                              token != NULL ? token : "");
    free(token);
    free(encoded);
    free(credential);
    return query;
}

int sign_target(const sign_key *key, const sign_request *request, const char time[SIGN_TIME_BYTES],
                unsigned seconds, char **ret_target, didi_error *error)
{
    char hex[DIGEST_HEX];
    assert(request->header_count == 0 && request->query[0] == '\0');
    assert(seconds > 0 && seconds <= SIGN_SECONDS_MAX);
    char *query = target_query(key, time, seconds);
    char *canonical = query != NULL
                          ? memory_format("%s\n%s\n%s\nhost:%s\n\nhost\n" SIGN_UNSIGNED,
                                          request->method, request->path, query, request->host)
                          : NULL;
    int status = canonical != NULL ? sign_text(key, time, canonical, hex, error)
                                   : didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    char *target = status == DIDI_OK
                       ? memory_format("%s?%s&X-Amz-Signature=%s", request->path, query, hex)
                       : NULL;
    if (status == DIDI_OK && target == NULL)
        status = didi_fail(error, DIDI_NO_MEMORY, NULL, "out of memory");
    if (status == DIDI_OK)
        *ret_target = target;
    free(canonical);
    free(query);
    return status;
}
