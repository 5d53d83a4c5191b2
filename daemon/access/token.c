/* SPDX-License-Identifier: Apache-2.0 */
/* The form of tokens. */
#include "daemon/access/token.h"

#include <string.h>
#include <strings.h>
#include <sys/random.h>

enum { PREFIX_CHARACTERS = 5, BODY_CHARACTERS = 43, CHECK_CHARACTERS = 6, BASE = 62 };

static const char prefix[] = "didi_";
static const char digits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

static uint32_t crc32_of(const char *text, size_t bytes)
{
    uint32_t crc = 0xffffffffU;
    for (size_t i = 0; i < bytes; i++) {
        crc ^= (unsigned char)text[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (0xedb88320U & (0U - (crc & 1U)));
    }
    return ~crc;
}

static void write_check(const char *text, char ret_check[CHECK_CHARACTERS])
{
    uint32_t crc = crc32_of(text, PREFIX_CHARACTERS + BODY_CHARACTERS);
    for (int i = CHECK_CHARACTERS - 1; i >= 0; i--, crc /= BASE)
        ret_check[i] = digits[crc % BASE];
}

void token_write(const unsigned char secret[TOKEN_SECRET_BYTES], char ret_text[TOKEN_TEXT_BYTES])
{
    unsigned char number[TOKEN_SECRET_BYTES];
    memcpy(number, secret, sizeof number);
    memcpy(ret_text, prefix, PREFIX_CHARACTERS);
    for (int i = BODY_CHARACTERS - 1; i >= 0; i--) { /* the last digit of what is left */
        unsigned rest = 0;
        for (size_t byte = 0; byte < sizeof number; byte++) {
            rest = rest << 8 | number[byte];
            number[byte] = (unsigned char)(rest / BASE);
            rest %= BASE;
        }
        ret_text[PREFIX_CHARACTERS + i] = digits[rest];
    }
    write_check(ret_text, ret_text + PREFIX_CHARACTERS + BODY_CHARACTERS);
    ret_text[TOKEN_CHARACTERS] = '\0';
    explicit_bzero(number, sizeof number);
}

int token_generate(char ret_text[TOKEN_TEXT_BYTES], didi_error *error)
{
    unsigned char secret[TOKEN_SECRET_BYTES];
    if (getrandom(secret, sizeof secret, 0) != (ssize_t)sizeof secret)
        return didi_fail(error, DIDI_IO, NULL, "the kernel gives no random bits");
    token_write(secret, ret_text);
    explicit_bzero(secret, sizeof secret);
    return DIDI_OK;
}

bool token_is_well_formed(const char *text)
{
    char check[CHECK_CHARACTERS];
    if (strnlen(text, TOKEN_TEXT_BYTES) != TOKEN_CHARACTERS ||
        memcmp(text, prefix, PREFIX_CHARACTERS) != 0)
        return false;
    for (size_t i = PREFIX_CHARACTERS; i < TOKEN_CHARACTERS; i++)
        if (memchr(digits, text[i], BASE) == NULL)
            return false;
    write_check(text, check);
    return memcmp(check, text + PREFIX_CHARACTERS + BODY_CHARACTERS, sizeof check) == 0;
}

int token_hash(const char *text, char ret_hash[TOKEN_HASH_BYTES], didi_error *error)
{
    return file_sha256_bytes(text, strlen(text), ret_hash, error);
}

void token_hint(const char *text, char ret_hint[TOKEN_HINT_BYTES])
{
    memcpy(ret_hint, text, TOKEN_HINT_BYTES - 1);
    ret_hint[TOKEN_HINT_BYTES - 1] = '\0';
}

const char *token_from_header(const char *value)
{
    static const char scheme[] = "Bearer";
    size_t bytes = sizeof scheme - 1;
    if (strncasecmp(value, scheme, bytes) != 0 || value[bytes] != ' ')
        return NULL;
    value += bytes + strspn(value + bytes, " ");
    return token_is_well_formed(value) ? value : NULL;
}
