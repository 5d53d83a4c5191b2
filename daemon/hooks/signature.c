/* SPDX-License-Identifier: Apache-2.0 */
/* HMAC-SHA256 in the forms that registries send it. */
#include "daemon/hooks/signature.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    HMAC_BYTES = 32,
    HMAC_HEX_CHARACTERS = 64,
    HMAC_BASE64_CHARACTERS = 44,
    TIMESTAMP_DIGITS_MAX = 12,
    SIGNATURES_MAX = 8, /* in one header, separated by blanks */
    IDENTIFIER_BYTES_MAX = 256,
};

/* Where a kind puts what. */
typedef struct signature_form {
    const char *signature, *id, *timestamp; /* headers; NULL: none */
    const char *prefix;                     /* before the signature */
    bool is_hex, is_base64;                 /* which of both may come */
    bool is_secret;                         /* the header is the secret itself */
    bool signs_timestamp, signs_id;         /* before the body, each followed by a dot */
} signature_form;

static const struct signature_kind {
    const char *kind;
    signature_form form;
} signature_kinds[] = {
    {"mlflow",
     {.signature = "X-MLflow-Signature",
      .id = "X-MLflow-Delivery-Id",
      .timestamp = "X-MLflow-Timestamp",
      .prefix = "v1,",
      .is_base64 = true,
      .signs_timestamp = true,
      .signs_id = true}},
    {"huggingface", {.signature = "X-Webhook-Secret", .prefix = "", .is_secret = true}},
    {"wandb", {.signature = "X-Wandb-Signature", .prefix = "", .is_hex = true, .is_base64 = true}},
    {"github",
     {.signature = "X-Hub-Signature-256",
      .id = "X-GitHub-Delivery",
      .prefix = "sha256=",
      .is_hex = true}},
};

static const char *text_of(const json_t *object, const char *key, const char *fallback)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : fallback;
}

static signature_form form_of(const json_t *hook)
{
    const char *kind = text_of(hook, "kind", "");
    for (size_t i = 0; i < sizeof signature_kinds / sizeof *signature_kinds; i++)
        if (strcmp(kind, signature_kinds[i].kind) == 0)
            return signature_kinds[i].form;
    const json_t *verify = json_object_get(hook, "verify");
    const char *order = text_of(verify, "signed", "body");
    bool base64 = strcmp(text_of(verify, "encoding", "hex"), "base64") == 0;
    return (signature_form){.signature = text_of(verify, "signature_header", ""),
                            .id = text_of(verify, "id_header", NULL),
                            .timestamp = text_of(verify, "timestamp_header", NULL),
                            .prefix = text_of(verify, "prefix", ""),
                            .is_hex = !base64,
                            .is_base64 = base64,
                            .signs_timestamp = strcmp(order, "body") != 0,
                            .signs_id = strcmp(order, "id.timestamp.body") == 0};
}

static int header_take(const hook_message *message, const char *name, const char **ret_value,
                       didi_error *error)
{
    const char *value = message->header(message->context, name);
    if (value == NULL || value[0] == '\0')
        return didi_fail(error, DIDI_INVALID, name, "%s is missing", name);
    *ret_value = value;
    return DIDI_OK;
}

static int timestamp_check(const char *name, const char *text, int64_t now_ms, didi_error *error)
{
    size_t digits = strspn(text, "0123456789");
    if (digits == 0 || digits > TIMESTAMP_DIGITS_MAX || text[digits] != '\0')
        return didi_fail(error, DIDI_INVALID, name, "%s is not a number of seconds", name);
    int64_t away = strtoll(text, NULL, 10) - now_ms / 1000;
    if (away > SIGNATURE_SECONDS_MAX || away < -SIGNATURE_SECONDS_MAX)
        return didi_fail(error, DIDI_INVALID, name,
                         "%s is more than %d seconds away from this server's clock", name,
                         SIGNATURE_SECONDS_MAX);
    return DIDI_OK;
}

/* HMAC over "id.timestamp.body", or what of it is signed. */
static int message_digest(const char *secret, const char *id, const char *timestamp,
                          const hook_message *message, unsigned char ret_digest[HMAC_BYTES],
                          didi_error *error)
{
    char head[IDENTIFIER_BYTES_MAX + TIMESTAMP_DIGITS_MAX + 3] = "";
    unsigned length = 0;
    (void)snprintf(head, sizeof head, "%s%s%s%s", id, id[0] != '\0' ? "." : "", timestamp,
                   timestamp[0] != '\0' ? "." : "");
    size_t before = strlen(head);
    unsigned char *all = memory_zeroed(before + message->bytes + 1, 1);
    if (all == NULL)
        return didi_fail(error, DIDI_NO_MEMORY, NULL, "no memory to check a signature");
    (void)snprintf((char *)all, before + 1, "%s", head);
    if (message->bytes > 0)
        memcpy(all + before, message->body, message->bytes);
    const unsigned char *made = HMAC(EVP_sha256(), secret, (int)strlen(secret), all,
                                     before + message->bytes, ret_digest, &length);
    free(all);
    return made != NULL && length == HMAC_BYTES
               ? DIDI_OK
               : didi_fail(error, DIDI_NO_MEMORY, NULL, "no memory to check a signature");
}

/* One signature of the header, without its prefix. */
static bool signature_equals(const signature_form *form, const char *text, size_t length,
                             const unsigned char digest[HMAC_BYTES])
{
    if (form->is_hex && length == HMAC_HEX_CHARACTERS) {
        char wanted[HMAC_HEX_CHARACTERS + 1];
        char given[HMAC_HEX_CHARACTERS];
        for (size_t i = 0; i < HMAC_BYTES; i++)
            (void)snprintf(wanted + 2 * i, 3, "%02x", digest[i]);
        for (size_t i = 0; i < HMAC_HEX_CHARACTERS; i++)
            given[i] = (char)(text[i] >= 'A' && text[i] <= 'F' ? text[i] + ('a' - 'A') : text[i]);
        return CRYPTO_memcmp(wanted, given, sizeof given) == 0;
    }
    if (form->is_base64 && length == HMAC_BASE64_CHARACTERS) {
        unsigned char wanted[HMAC_BASE64_CHARACTERS + 1];
        EVP_EncodeBlock(wanted, digest, HMAC_BYTES);
        return CRYPTO_memcmp(wanted, text, HMAC_BASE64_CHARACTERS) == 0;
    }
    return false;
}

static bool signature_matches(const signature_form *form, const char *text,
                              const unsigned char digest[HMAC_BYTES])
{
    size_t prefix = strlen(form->prefix);
    bool matches = false;
    for (int i = 0; i < SIGNATURES_MAX && *text != '\0'; i++) {
        size_t length = strcspn(text, " ");
        if (length > prefix && strncmp(text, form->prefix, prefix) == 0)
            matches |= signature_equals(form, text + prefix, length - prefix, digest);
        text += length;
        text += strspn(text, " ");
    }
    return matches;
}

/* Digests have one length, whatever is compared. */
static int secret_check(const char *header, const char *given, const char *secret,
                        didi_error *error)
{
    char of_given[65];
    char of_secret[65];
    int status = file_sha256_bytes(given, strlen(given), of_given, error);
    if (status == DIDI_OK)
        status = file_sha256_bytes(secret, strlen(secret), of_secret, error);
    if (status != DIDI_OK)
        return status;
    return CRYPTO_memcmp(of_given, of_secret, sizeof of_given) == 0
               ? DIDI_OK
               : didi_fail(error, DIDI_INVALID, header, "%s is not the secret", header);
}

int signature_check(const json_t *hook, const char *secret, const hook_message *message,
                    int64_t now_ms, didi_error *error)
{
    const signature_form form = form_of(hook);
    const char *given = "";
    const char *id = "";
    const char *timestamp = "";
    unsigned char digest[HMAC_BYTES];
    int status = header_take(message, form.signature, &given, error);
    if (status == DIDI_OK && form.is_secret)
        return secret_check(form.signature, given, secret, error);
    if (status == DIDI_OK && form.signs_id)
        status = header_take(message, form.id, &id, error);
    if (status == DIDI_OK && strlen(id) > IDENTIFIER_BYTES_MAX)
        status = didi_fail(error, DIDI_INVALID, form.id, "%s is longer than %d bytes", form.id,
                           IDENTIFIER_BYTES_MAX);
    if (status == DIDI_OK && form.signs_timestamp)
        status = header_take(message, form.timestamp, &timestamp, error);
    if (status == DIDI_OK && form.signs_timestamp)
        status = timestamp_check(form.timestamp, timestamp, now_ms, error);
    if (status == DIDI_OK)
        status = message_digest(secret, id, timestamp, message, digest, error);
    if (status == DIDI_OK && !signature_matches(&form, given, digest))
        status =
            didi_fail(error, DIDI_INVALID, form.signature, "%s does not match", form.signature);
    OPENSSL_cleanse(digest, sizeof digest);
    return status;
}

const char *signature_delivery(const json_t *hook, const hook_message *message, bool *ret_is_signed)
{
    const signature_form form = form_of(hook);
    const char *id = form.id != NULL ? message->header(message->context, form.id) : NULL;
    *ret_is_signed = id != NULL && form.signs_id;
    return id != NULL && strlen(id) <= IDENTIFIER_BYTES_MAX ? id : NULL;
}
