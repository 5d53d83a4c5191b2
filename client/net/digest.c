/* SPDX-License-Identifier: Apache-2.0 */
/* SHA-256 of bytes that come in pieces. */
#include "client/net/digest.h"

#include "client/base/base.h"
#include "src/base/base.h"

#include <assert.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

enum { SHA256_BYTES = 32 };

struct client_digest {
    EVP_MD_CTX *context;
    bool begun; /* since the last restart, and not finished */
    bool failed;
};

client_digest *digest_create(void)
{
    client_digest *self = memory_zeroed(1, sizeof *self);
    if (self != NULL && (self->context = EVP_MD_CTX_new()) == NULL) {
        free(self);
        self = NULL;
    }
    return self;
}

void digest_free(client_digest *digest)
{
    if (digest != NULL) {
        EVP_MD_CTX_free(digest->context);
        free(digest);
    }
}

int digest_restart(client_digest *digest, didi_error *error)
{
    digest->begun = true;
    digest->failed = EVP_DigestInit_ex(digest->context, EVP_sha256(), NULL) != 1;
    return digest->failed ? didi_fail(error, CLIENT_FAILURE, NULL, "OpenSSL has no SHA-256")
                          : CLIENT_OK;
}

void digest_add(client_digest *digest, const void *bytes, size_t count)
{
    assert(digest->begun);
    if (EVP_DigestUpdate(digest->context, bytes, count) != 1)
        digest->failed = true;
}

int digest_finish(client_digest *digest, char ret_hex[65], didi_error *error)
{
    unsigned char bytes[EVP_MAX_MD_SIZE];
    unsigned int count = 0;
    assert(digest->begun);
    digest->begun = false;
    if (digest->failed || EVP_DigestFinal_ex(digest->context, bytes, &count) != 1 ||
        count != SHA256_BYTES)
        return didi_fail(error, CLIENT_FAILURE, NULL, "SHA-256 failed");
    file_hex(bytes, SHA256_BYTES, ret_hex);
    return CLIENT_OK;
}

bool digest_matches_header(const char *hex, const char *header)
{
    assert(strlen(hex) == 2UL * SHA256_BYTES);
    char wanted[FILE_REPR_DIGEST_BYTES];
    const char *member = strstr(header, "sha-256=:");
    file_repr_digest(hex, wanted);
    return member == NULL || strncmp(member, wanted, strlen(wanted)) == 0;
}
