/* SPDX-License-Identifier: Apache-2.0 */
/* Tokens' form and checksum, attempts under a clock of the test's, where the daemon may listen,
 * tokens of a store, secrets. */
#include "daemon/access/access.h"
#include "daemon/access/limiter.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

/* The CRC-32 in it is that of zlib's crc32(). */
#define ZERO_TOKEN "didi_0000000000000000000000000000000000000000000" ZERO_CHECK
#define ZERO_CHECK "3339nJ"

static void test_form(void **state)
{
    const unsigned char zero[TOKEN_SECRET_BYTES] = {0};
    unsigned char full[TOKEN_SECRET_BYTES];
    char text[TOKEN_TEXT_BYTES];
    char other[TOKEN_TEXT_BYTES];
    didi_error error = {0};
    (void)state;
    token_write(zero, text);
    assert_string_equal(text, ZERO_TOKEN);
    memset(full, 0xff, sizeof full);
    token_write(full, text);
    assert_true(token_is_well_formed(text));
    assert_int_equal(strlen(text), TOKEN_CHARACTERS);
    assert_int_equal(token_generate(text, &error), DIDI_OK);
    assert_int_equal(token_generate(other, &error), DIDI_OK);
    assert_string_not_equal(text, other);
    for (size_t i = 0; i < TOKEN_CHARACTERS; i++) { /* one wrong character is noticed anywhere */
        memcpy(other, text, sizeof other);
        other[i] = other[i] == 'x' ? 'y' : 'x';
        assert_false(token_is_well_formed(other));
    }
    text[TOKEN_CHARACTERS - 1] = '\0';
    assert_false(token_is_well_formed(text));
    assert_false(token_is_well_formed(""));
    assert_false(token_is_well_formed(ZERO_TOKEN "0"));
}

static void test_header(void **state)
{
    static const char *const bad[] = {"",
                                      "Bearer",
                                      "Bearer ",
                                      "Bearer\t" ZERO_TOKEN,
                                      "Basic " ZERO_TOKEN,
                                      "Bearer" ZERO_TOKEN,
                                      "Bearer " ZERO_TOKEN " ",
                                      "Bearer " ZERO_TOKEN ", Basic x",
                                      ZERO_TOKEN};
    (void)state;
    assert_string_equal(token_from_header("Bearer " ZERO_TOKEN), ZERO_TOKEN);
    assert_string_equal(token_from_header("bEARER   " ZERO_TOKEN), ZERO_TOKEN);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_null(token_from_header(bad[i]));
}

static void test_limiter(void **state)
{
    failures *self = calloc(1, sizeof *self);
    int seconds = 0;
    char address[32];
    (void)state;
    assert_non_null(self);
    for (int i = 0; i < FAILURES_MAX; i++)
        assert_true(limiter_attempt(self, "10.0.0.1", 1000 + i, &seconds));
    assert_false(limiter_attempt(self, "10.0.0.1", 2000, &seconds));
    assert_int_equal(seconds, 59);
    assert_true(limiter_attempt(self, "10.0.0.2", 2000, &seconds));
    assert_false(limiter_attempt(self, "10.0.0.1", 60999, &seconds));
    assert_int_equal(seconds, 1);
    assert_true(limiter_attempt(self, "10.0.0.1", 61000, &seconds));
    for (int i = 0; i < FAILURES_MAX; i++) { /* one /64 is one client */
        (void)snprintf(address, sizeof address, "2001:db8::%d", i + 1);
        assert_true(limiter_attempt(self, address, 61000, &seconds));
    }
    assert_false(limiter_attempt(self, "2001:db8::ffff", 61000, &seconds));
    assert_true(limiter_attempt(self, "2001:db8:0:1::1", 61000, &seconds));
    for (int i = 0; i < 2 * FAILURES_ADDRESSES_MAX; i++) { /* a full list forgets the oldest */
        (void)snprintf(address, sizeof address, "10.1.%d.%d", i / 256, i % 256);
        assert_true(limiter_attempt(self, address, 70000 + i, &seconds));
    }
    free(self);
}

static void test_listen_rule(void **state)
{
    static const char *const near[] = {"127.0.0.1:0", "127.9.9.9:7878", "[::1]:1", "localhost:1",
                                       "unix:/run/x"};
    static const char *const far[] = {"0.0.0.0:7878",           "10.0.0.1:1",    "[::]:7878",
                                      "[2001:db8::1]:1",        "example.org:1", "128.0.0.1:1",
                                      "127.0.0.1.example.org:1"};
    didi_error error = {0};
    (void)state;
    for (size_t i = 0; i < sizeof near / sizeof near[0]; i++)
        assert_int_equal(listen_check(&(listen_facts){.listen = near[i]}, &error), DIDI_OK);
    for (size_t i = 0; i < sizeof far / sizeof far[0]; i++)
        for (int facts = 0; facts < 8; facts++) {
            listen_facts given = {.listen = far[i],
                                  .tokens = (facts & 1) != 0,
                                  .tls = (facts & 2) != 0,
                                  .behind_proxy = (facts & 4) != 0};
            bool allowed = given.tokens && (given.tls || given.behind_proxy);
            assert_int_equal(listen_check(&given, &error), allowed ? DIDI_OK : DIDI_INVALID);
            if (!allowed)
                assert_non_null(strstr(error.message, given.tokens ? "behind_proxy" : "no token"));
        }
}

static void test_tokens_of_a_store(void **state)
{
    char directory[] = "/tmp/didid-access-XXXXXX";
    const config settings = {0};
    didi_error error = {0};
    store *records = NULL;
    access_control *access = NULL;
    token_request asked = {.scope = TOKEN_SCOPE_SUBMIT};
    char id[ID_BYTES];
    char text[TOKEN_TEXT_BYTES];
    char hash[TOKEN_HASH_BYTES];
    store_token row = {0};
    access_client client;
    (void)state;
    assert_non_null(mkdtemp(directory));
    assert_int_equal(store_open(directory, &records, &error), DIDI_OK);
    assert_int_equal(access_create(&settings, records, &access, &error), DIDI_OK);
    assert_false(access_has_tokens(access));
    assert_true(access_holds(access, ""));
    assert_int_equal(token_request_from_texts("ci", "submit", "90d", &asked, &error), DIDI_OK);
    assert_int_equal(access_token_create(access, &asked, "user-0", id, text, &error), DIDI_OK);
    assert_true(access_has_tokens(access) && access_holds(access, id));
    assert_false(access_holds(access, ""));
    access_client_of(access, id, &client);
    assert_int_equal(client.scope, TOKEN_SCOPE_SUBMIT);
    assert_int_equal(store_token_get(records, id, &row, &error), DIDI_OK);
    assert_int_equal(token_hash(text, hash, &error), DIDI_OK);
    assert_string_equal(row.hash, hash);
    assert_int_equal(row.expires_ms / 86400000 - row.created_ms / 86400000, 90);
    store_token_clear(&row);
    assert_int_equal(access_token_revoke(access, id, "user-0", &error), DIDI_OK);
    assert_false(access_holds(access, id));
    assert_false(access_holds(access, "")); /* revoking the last one opens nothing */
    assert_int_equal(access_token_revoke(access, id, "user-0", &error), DIDI_NOT_FOUND);
    token_request_clear(&asked);
    access_free(access);
    store_close(records);
    assert_int_equal(file_remove_tree(AT_FDCWD, directory + 1, &error), DIDI_OK);
}

static void test_secrets(void **state)
{
    char directory[] = "/tmp/didid-secret-XXXXXX";
    char path[64];
    char *text = NULL;
    didi_error error = {0};
    (void)state;
    assert_non_null(mkdtemp(directory));
    (void)snprintf(path, sizeof path, "%s/key", directory);
    int fd = open(path, O_CREAT | O_WRONLY, 0600);
    assert_int_equal(write(fd, "s3cret\n", 7), 7);
    close(fd);
    assert_int_equal(secret_read_word("x", path, &text, &error), DIDI_OK);
    assert_string_equal(text, "s3cret");
    free(text);
    assert_int_equal(setenv("CREDENTIALS_DIRECTORY", directory, 1), 0);
    assert_int_equal(secret_read_word("x", "credential:key", &text, &error), DIDI_OK);
    free(text);
    assert_int_equal(secret_read_word("x", "credential:../key", &text, &error), DIDI_INVALID);
    assert_int_equal(unsetenv("CREDENTIALS_DIRECTORY"), 0);
    assert_int_equal(secret_read_word("x", "credential:key", &text, &error), DIDI_INVALID);
    assert_int_equal(chmod(path, 0644), 0);
    assert_int_equal(secret_read_word("x", path, &text, &error), DIDI_INVALID);
    assert_non_null(strstr(error.message, "mode 644"));
    assert_null(strstr(error.message, "s3cret"));
    unlink(path);
    rmdir(directory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_form),    cmocka_unit_test(test_header),
        cmocka_unit_test(test_limiter), cmocka_unit_test(test_listen_rule),
        cmocka_unit_test(test_secrets), cmocka_unit_test(test_tokens_of_a_store),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
