/* SPDX-License-Identifier: Apache-2.0 */
/* Secrets and signatures, over libcrypto. */
#include "daemon/webhooks/secret.h"

#include "proto/proto.h"

#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum {
    KEY_BYTES = 32,
    NONCE_BYTES = 12,
    TAG_BYTES = 16,
    DIGEST_BYTES = 32,
    MADE_BYTES = 32,
    KEY_FILE_BYTES_MAX = 1024,
    SEALED_BYTES_MAX = 1024, /* decoded */
};

#define SEALED_PREFIX "sealed:"

struct secret_key {
    unsigned char bytes[KEY_BYTES];
};

static int no_memory(didi_error *error)
{
    return didi_fail(error, DIDI_NO_MEMORY, NULL, "no memory for a secret");
}

void secret_free(char *text)
{
    if (text != NULL)
        OPENSSL_cleanse(text, strlen(text));
    free(text);
}

static bool read_hex(const char *text, unsigned char ret_bytes[KEY_BYTES])
{
    static const char digits[] = "0123456789abcdef";
    if (strlen(text) != (size_t)2 * KEY_BYTES || strspn(text, digits) != (size_t)2 * KEY_BYTES)
        return false;
    for (size_t i = 0; i < KEY_BYTES; i++)
        ret_bytes[i] = (unsigned char)((strchr(digits, text[2 * i]) - digits) << 4 |
                                       (strchr(digits, text[2 * i + 1]) - digits));
    return true;
}

int secret_key_read(const char *file, secret_key **ret_key, didi_error *error)
{
    char *text = NULL;
    size_t bytes = 0;
    *ret_key = NULL;
    if (file == NULL)
        return DIDI_OK;
    int status = file_read_text(AT_FDCWD, file, KEY_FILE_BYTES_MAX, &text, &bytes, error);
    if (status != DIDI_OK)
        return status;
    secret_key *key = memory_zeroed(1, sizeof *key);
    if (key == NULL)
        status = no_memory(error);
    else if (!read_hex(text_trim(text), key->bytes))
        status = didi_fail(error, DIDI_INVALID, "webhook_key_file",
                           "%s does not hold a key: 64 lower-case hex digits", file);
    OPENSSL_cleanse(text, bytes);
    free(text);
    if (status == DIDI_OK)
        *ret_key = key;
    else
        secret_key_free(key);
    return status;
}

void secret_key_free(secret_key *key)
{
    if (key != NULL)
        OPENSSL_cleanse(key, sizeof *key);
    free(key);
}

/* "PREFIX" and the base64 of the bytes; NULL: no memory. */
static char *encoded(const char *prefix, const unsigned char *bytes, size_t count)
{
    size_t length = strlen(prefix);
    size_t bytes_max = length + (count + 2) / 3 * 4 + 1;
    char *text = memory_zeroed(bytes_max, 1);
    if (text != NULL) {
        (void)snprintf(text, bytes_max, "%s", prefix);
        EVP_EncodeBlock((unsigned char *)text + length, bytes, (int)count);
    }
    return text;
}

/* The bytes behind the prefix; false where the text is not of this form. */
static bool decoded(const char *prefix, const char *text, unsigned char ret_bytes[SEALED_BYTES_MAX],
                    size_t *ret_count)
{
    size_t skipped = strlen(prefix);
    if (strncmp(text, prefix, skipped) != 0)
        return false;
    text += skipped;
    size_t length = strlen(text);
    if (length == 0 || length % 4 != 0 || length / 4 * 3 > SEALED_BYTES_MAX)
        return false;
    int count = EVP_DecodeBlock(ret_bytes, (const unsigned char *)text, (int)length);
    if (count < 0)
        return false;
    *ret_count = (size_t)count - (text[length - 1] == '=') - (text[length - 2] == '=');
    return true;
}

int secret_make(char **ret_text, didi_error *error)
{
    unsigned char bytes[MADE_BYTES];
    if (getrandom(bytes, sizeof bytes, 0) != (ssize_t)sizeof bytes)
        return didi_fail(error, DIDI_IO, NULL, "the kernel gives no random bytes");
    char *text = encoded(WEBHOOK_SECRET_PREFIX, bytes, sizeof bytes);
    OPENSSL_cleanse(bytes, sizeof bytes);
    if (text == NULL)
        return no_memory(error);
    *ret_text = text;
    return DIDI_OK;
}

/* ---- sealing ---- */

/* nonce, what the text has become, tag: of SEALED_BYTES_MAX at most. */
static bool seal_bytes(const secret_key *key, const char *text,
                       unsigned char ret_bytes[SEALED_BYTES_MAX])
{
    EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
    unsigned char *out = ret_bytes + NONCE_BYTES;
    int length = (int)strlen(text);
    int written = 0;
    bool done =
        context != NULL && getrandom(ret_bytes, NONCE_BYTES, 0) == (ssize_t)NONCE_BYTES &&
        EVP_EncryptInit_ex(context, EVP_aes_256_gcm(), NULL, key->bytes, ret_bytes) == 1 &&
        EVP_EncryptUpdate(context, out, &written, (const unsigned char *)text, length) == 1 &&
        EVP_EncryptFinal_ex(context, out + length, &written) == 1 &&
        EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_GCM_GET_TAG, TAG_BYTES, out + length) == 1;
    EVP_CIPHER_CTX_free(context);
    return done;
}

static bool open_bytes(const secret_key *key, unsigned char *bytes, size_t count, char *ret_text)
{
    EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
    int length = (int)count - NONCE_BYTES - TAG_BYTES;
    int written = 0;
    unsigned char *text = (unsigned char *)ret_text;
    bool done = context != NULL && length > 0 &&
                EVP_DecryptInit_ex(context, EVP_aes_256_gcm(), NULL, key->bytes, bytes) == 1 &&
                EVP_DecryptUpdate(context, text, &written, bytes + NONCE_BYTES, length) == 1 &&
                EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_GCM_SET_TAG, TAG_BYTES,
                                    bytes + NONCE_BYTES + length) == 1 &&
                EVP_DecryptFinal_ex(context, text + length, &written) == 1;
    EVP_CIPHER_CTX_free(context);
    return done;
}

int secret_seal(const secret_key *key, const char *text, char **ret_sealed, didi_error *error)
{
    unsigned char bytes[SEALED_BYTES_MAX];
    size_t count = strlen(text) + NONCE_BYTES + TAG_BYTES;
    if (count > sizeof bytes)
        return didi_fail(error, DIDI_INVALID, NULL, "the secret is too long");
    if (key != NULL && !seal_bytes(key, text, bytes))
        return didi_fail(error, DIDI_INTERNAL, NULL, "the secret cannot be sealed");
    char *sealed = key != NULL ? encoded(SEALED_PREFIX, bytes, count) : memory_string(text);
    if (sealed == NULL)
        return no_memory(error);
    *ret_sealed = sealed;
    return DIDI_OK;
}

int secret_open(const secret_key *key, const char *sealed, char **ret_text, didi_error *error)
{
    unsigned char bytes[SEALED_BYTES_MAX];
    size_t count = 0;
    if (strncmp(sealed, SEALED_PREFIX, strlen(SEALED_PREFIX)) != 0) {
        char *copy = memory_string(sealed);
        if (copy == NULL)
            return no_memory(error);
        *ret_text = copy;
        return DIDI_OK;
    }
    if (key == NULL)
        return didi_fail(error, DIDI_INVALID, "webhook_key_file",
                         "the secret is sealed; --webhook-key-file must name the key's file");
    char *text = memory_zeroed(SEALED_BYTES_MAX + 1, 1);
    if (text == NULL)
        return no_memory(error);
    if (!decoded(SEALED_PREFIX, sealed, bytes, &count) || !open_bytes(key, bytes, count, text)) {
        OPENSSL_cleanse(text, SEALED_BYTES_MAX);
        free(text);
        return didi_fail(error, DIDI_INVALID, "webhook_key_file",
                         "the secret was sealed with another key");
    }
    *ret_text = text;
    return DIDI_OK;
}

/* ---- signing ---- */

static int sign_once(const char *secret, const char *message, char **signatures, didi_error *error)
{
    unsigned char key[SEALED_BYTES_MAX];
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned digest_bytes = 0;
    size_t key_bytes = 0;
    if (!decoded(WEBHOOK_SECRET_PREFIX, secret, key, &key_bytes) || key_bytes == 0)
        return didi_fail(error, DIDI_INVALID, NULL, "the secret is not of the form whsec_BASE64");
    bool done = HMAC(EVP_sha256(), key, (int)key_bytes, (const unsigned char *)message,
                     strlen(message), digest, &digest_bytes) != NULL &&
                digest_bytes == DIGEST_BYTES;
    OPENSSL_cleanse(key, sizeof key);
    char *one = done ? encoded("v1,", digest, DIGEST_BYTES) : NULL;
    char *all = one == NULL           ? NULL
                : *signatures != NULL ? memory_format("%s %s", *signatures, one)
                                      : memory_string(one);
    free(one);
    if (all == NULL)
        return no_memory(error);
    free(*signatures);
    *signatures = all;
    return DIDI_OK;
}

int secret_sign(const signed_message *message, const char *const *secrets, size_t count,
                char **ret_signature, didi_error *error)
{
    char *signatures = NULL;
    int status = DIDI_OK;
    char *text =
        memory_format("%s.%lld.%s", message->id, (long long)message->timestamp, message->body);
    if (text == NULL || count == 0)
        status = no_memory(error);
    for (size_t i = 0; i < count && status == DIDI_OK; i++)
        status = sign_once(secrets[i], text, &signatures, error);
    free(text);
    if (status == DIDI_OK)
        *ret_signature = signatures;
    else
        free(signatures);
    return status;
}
