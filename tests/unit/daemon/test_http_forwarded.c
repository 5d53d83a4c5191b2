/* SPDX-License-Identifier: Apache-2.0 */
/* Networks of trusted proxies, and the client that their headers name. */
#include "daemon/http/forwarded.h"
#include "tests/unit/support.h"

#include <stdio.h>
#include <string.h>

static http_networks networks(const char *text)
{
    http_networks read = {.count = 99};
    assert_int_equal(http_networks_parse(text, &read, NULL), DIDI_OK);
    return read;
}

static void networks_are_read(void **state)
{
    (void)state;
    assert_int_equal(networks(NULL).count, 0);
    const http_networks some = networks("127.0.0.1, 10.0.0.0/8,192.0.2.128/25,2001:db8::/33");
    const http_networks all = networks("::/0");
    assert_int_equal(some.count, 4);
    const char *const inside[] = {"127.0.0.1",       "10.255.0.1",          "192.0.2.128",
                                  "::ffff:10.0.0.1", "2001:db8:7fff::ffff", "192.0.2.255"};
    const char *const outside[] = {"127.0.0.2", "11.0.0.1",         "192.0.2.127", "unix",
                                   "",          "2001:db8:8000::1", "::1",         "::a00:1"};
    for (size_t i = 0; i < sizeof inside / sizeof inside[0]; i++)
        assert_true(http_networks_has(&some, inside[i]) && http_networks_has(&all, inside[i]));
    for (size_t i = 0; i < sizeof outside / sizeof outside[0]; i++)
        assert_false(http_networks_has(&some, outside[i]));
    assert_false(http_networks_has(&all, "unix"));
}

static void bad_networks_are_refused(void **state)
{
    static const char *const bad[] = {
        "",       "127.0.0.1,",  "proxy",        "10.0.0.0/33", "10.0.0.0/", "::/129",
        "10.0/8", "10.0.0.0/-1", "10.0.0.0/8/8", "[::1]",       "1.2.3.4:80"};
    http_networks read = {.count = 7};
    char many[40 * 8] = "::1";
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        didi_error error = {0};
        assert_int_equal(http_networks_parse(bad[i], &read, &error), DIDI_INVALID);
        support_assert_contains(error.message, "trusted_proxies");
    }
    for (size_t i = 0; i < HTTP_NETWORKS_MAX; i++)
        memcpy(many + 3 + 4 * i, ",::1", 5);
    assert_int_equal(http_networks_parse(many, &read, NULL), DIDI_INVALID);
    assert_int_equal(read.count, 7);
}

/* The client behind 192.0.2.0/24, NULL: refused. `lines` are whole header lines. */
static const char *client_of(const char *lines, http_fault *fault)
{
    static char text[8192];
    static char address[INET6_ADDRSTRLEN];
    static http_head head;
    const http_networks trusted = networks("192.0.2.0/24,fd00::/8");
    int count = snprintf(text, sizeof text, "GET / HTTP/1.1\r\nHost: a\r\n%s\r\n", lines);
    assert_true(http_head_parse(text, (size_t)count, &head, fault));
    return http_forwarded_client(&head, &trusted, address, fault) ? address : NULL;
}

static void the_rightmost_untrusted_address_counts(void **state)
{
    static const char *const good[][2] = {
        {"", ""},
        {"X-Forwarded-For: 198.51.100.1\r\n", "198.51.100.1"},
        {"X-Forwarded-For: 203.0.113.9, 198.51.100.1,192.0.2.7\r\n", "198.51.100.1"},
        {"X-Forwarded-For: 203.0.113.9\r\nx-forwarded-for: 198.51.100.1\r\n", "198.51.100.1"},
        {"X-Forwarded-For: 192.0.2.1, 192.0.2.2\r\n", "192.0.2.1"},
        {"X-Forwarded-For: 198.51.100.1:4711\r\n", "198.51.100.1"},
        {"X-Forwarded-For: 2001:DB8::1\r\n", "2001:db8::1"},
        {"X-Forwarded-For: [2001:db8::1]:443 , fd00::1\r\n", "2001:db8::1"},
        {"X-Forwarded-For: ::ffff:198.51.100.1\r\n", "198.51.100.1"},
        {"Forwarded: for=198.51.100.1\r\n", "198.51.100.1"},
        {"Forwarded: For=\"[2001:db8::1]:99\";proto=https , by=192.0.2.1;for=192.0.2.9\r\n",
         "2001:db8::1"},
        {"Forwarded: for=203.0.113.9;host=\"a, for=1.2.3.4\"\r\nForwarded: for=198.51.100.1\r\n",
         "198.51.100.1"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        http_fault fault = {0};
        const char *client = client_of(good[i][0], &fault);
        assert_non_null(client);
        assert_string_equal(client, good[i][1]);
    }
}

static void malformed_headers_are_refused(void **state)
{
    static const char *const bad[] = {
        "X-Forwarded-For:\r\n",
        "X-Forwarded-For: unknown\r\n",
        "X-Forwarded-For: 198.51.100.1,\r\n",
        "X-Forwarded-For: ,198.51.100.1\r\n",
        "X-Forwarded-For: 198.51.100.1 192.0.2.1\r\n",
        "X-Forwarded-For: 198.51.100\r\n",
        "X-Forwarded-For: 198.51.100.1:\r\n",
        "X-Forwarded-For: 198.51.100.1:70000\r\n",
        "X-Forwarded-For: [198.51.100.1]\r\n",
        "X-Forwarded-For: [::1\r\n",
        "X-Forwarded-For: []\r\n",
        "X-Forwarded-For: fe80::1%eth0\r\n",
        "X-Forwarded-For: junk, 198.51.100.1\r\n",
        "X-Forwarded-For: 198.51.100.1\r\nForwarded: for=198.51.100.1\r\n",
        "Forwarded: 198.51.100.1\r\n",
        "Forwarded: for=\r\n",
        "Forwarded: for=_hidden\r\n",
        "Forwarded: for=\"198.51.100.1\r\n",
        "Forwarded: for=198.51.100.1;for=198.51.100.2\r\n",
        "Forwarded: proto=https\r\n",
        "Forwarded: for=198.51.100.1,\r\n",
        "Forwarded: for=198.51.100.1;\r\n",
        "Forwarded: for=198.51.100.1 for=198.51.100.2\r\n",
        "Forwarded: for=\"\\198.51.100.1\"\r\n",
    };
    char many[HTTP_FORWARDED_MAX * 16 + 64] = "X-Forwarded-For: 1.1.1.1";
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        http_fault fault = {0};
        assert_null(client_of(bad[i], &fault));
        assert_int_equal(fault.type, PROBLEM_MALFORMED_REQUEST);
        support_assert_contains(fault.parameter, "Forwarded");
    }
    size_t length = strlen(many);
    for (size_t i = 1; i < HTTP_FORWARDED_MAX; i++, length += 9)
        memcpy(many + length, ", 1.1.1.1", 10);
    http_fault fault = {0};
    memcpy(many + length, "\r\n", 3);
    assert_non_null(client_of(many, &fault));
    memcpy(many + length, ", 1.1.1.1\r\n", 12);
    assert_null(client_of(many, &fault));
    support_assert_contains(fault.detail, "32");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(networks_are_read),
        cmocka_unit_test(bad_networks_are_refused),
        cmocka_unit_test(the_rightmost_untrusted_address_counts),
        cmocka_unit_test(malformed_headers_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
