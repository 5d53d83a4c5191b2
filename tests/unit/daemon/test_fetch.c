/* SPDX-License-Identifier: Apache-2.0 */
/* Sources as clients spell them, and addresses that are not fetched from. */
#include "daemon/egress/egress.h"
#include "daemon/fetch/source.h"
#include "daemon/fetch/transfer.h"
#include "tests/unit/support.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

static bool is_public(const char *text)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
    if (strchr(text, ':') == NULL) {
        assert_int_equal(inet_pton(AF_INET, text, &v4.sin_addr), 1);
        return egress_address_is_public((const struct sockaddr *)&v4);
    }
    assert_int_equal(inet_pton(AF_INET6, text, &v6.sin6_addr), 1);
    return egress_address_is_public((const struct sockaddr *)&v6);
}

static void private_addresses_are_known(void **state)
{
    static const char *const open[] = {
        "1.1.1.1",           "9.255.255.255",    "11.0.0.0",      "172.15.255.1",    "172.32.0.1",
        "100.63.255.255",    "100.128.0.0",      "198.17.255.1",  "223.255.255.255", "2606:4700::1",
        "2002:0101:0101::1", "64:ff9b::808:808", "::ffff:8.8.8.8"};
    static const char *const closed[] = {"0.0.0.0",
                                         "10.0.0.1",
                                         "127.0.0.1",
                                         "127.255.255.255",
                                         "169.254.169.254",
                                         "172.16.0.1",
                                         "172.31.255.255",
                                         "192.168.1.1",
                                         "100.64.0.1",
                                         "198.18.0.1",
                                         "224.0.0.1",
                                         "255.255.255.255",
                                         "::",
                                         "::1",
                                         "fe80::1",
                                         "fc00::1",
                                         "fd12::1",
                                         "ff02::1",
                                         "::ffff:10.0.0.1",
                                         "64:ff9b::a00:1",
                                         "2002:0a00:0001::1"};
    (void)state;
    for (size_t i = 0; i < sizeof open / sizeof *open; i++)
        if (!is_public(open[i]))
            fail_msg("%s is public", open[i]);
    for (size_t i = 0; i < sizeof closed / sizeof *closed; i++)
        if (is_public(closed[i]))
            fail_msg("%s is not public", closed[i]);
    assert_false(egress_address_is_public(&(struct sockaddr){.sa_family = AF_UNIX}));
}

static void sources_are_read(void **state)
{
    fetch_source found;
    didi_error error = {0};
    (void)state;
    assert_int_equal(source_parse("a/b", "hf:a/b", &found, &error), DIDI_OK);
    assert_int_equal(found.kind, SOURCE_HUB);
    assert_string_equal(found.repository, "a/b");
    assert_string_equal(found.revision, "main");
    assert_int_equal(source_parse("b@refs/pr/1", "hf:b@refs/pr/1", &found, &error), DIDI_OK);
    assert_string_equal(found.repository, "b");
    assert_string_equal(found.revision, "refs/pr/1");
    assert_int_equal(source_parse("x", "https://h/a.safetensors?x=1", &found, &error), DIDI_OK);
    assert_int_equal(found.kind, SOURCE_URL);
    assert_string_equal(found.text, "https://h/a.safetensors?x=1");
    assert_int_equal(source_parse("x", "/models/x", &found, &error), DIDI_OK);
    assert_int_equal(found.kind, SOURCE_PATH);
}

static void other_sources_are_refused(void **state)
{
    static const struct {
        const char *name, *text, *subject;
    } bad[] = {{"a/b/c", "hf:a/b/c", "/source"},
               {"a", "hf:", "/source"},
               {"a", "hf:../a", "/source"},
               {"a", "hf:a--b", "/source"},
               {"a", "hf:a@", "/source"},
               {"a", "hf:a@b@c", "/source"},
               {"x", "hf:a/b", "/name"},
               {"a/b@v2", "hf:a/b@v1", "/name"},
               {"x", "models/x", "/source"},
               {"x", "file:///x.safetensors", "/source"},
               {"x", "https://h/a.bin", "/source"},
               {"x", "https://h/a.safetensors#x", "/source"},
               {"x@v", "https://h/a.safetensors", "/name"},
               {"models--a/b", "https://h/a.safetensors", "/name"}};
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        fetch_source found = {.kind = SOURCE_PATH};
        didi_error error = {0};
        assert_int_equal(source_parse(bad[i].name, bad[i].text, &found, &error), DIDI_INVALID);
        assert_string_equal(error.subject, bad[i].subject);
        assert_int_equal(found.kind, SOURCE_PATH);
    }
}

static void hosts_are_judged_before_they_are_asked(void **state)
{
    static const struct {
        const char *url;
        bool may;
    } cases[] = {{"https://hub.example/x", true},
                 {"https://HUB.example/x", true},
                 {"https://hub.example:444/x", false},
                 {"http://hub.example/x", false},
                 {"https://cdn.example/x", true},
                 {"https://a.below.example/x", true},
                 {"https://below.example/x", false},
                 {"https://xbelow.example/x", false},
                 {"https://cdn.example.evil/x", false},
                 {"https://u@cdn.example/x", false},
                 {"ftp://cdn.example/x", false},
                 {"file:///etc/passwd", false},
                 {"https:", false}};
    const transfer_rules rules = {.endpoint = "https://hub.example",
                                  .hosts = "cdn.example, .below.example"};
    transfer *self = NULL;
    didi_error error = {0};
    (void)state;
    assert_int_equal(transfer_create(&rules, &self, &error), DIDI_OK);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (transfer_may_ask(self, cases[i].url, &error) != cases[i].may)
            fail_msg("%s: %s", cases[i].url, error.message);
    transfer_free(self);
    self = NULL;
    const transfer_rules broken = {.endpoint = "hub"};
    assert_int_equal(transfer_create(&broken, &self, &error), DIDI_INVALID);
    assert_null(self);
    char *escaped = transfer_escape("a b/c#d/e%.json");
    assert_string_equal(escaped, "a%20b/c%23d/e%25.json");
    free(escaped);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(private_addresses_are_known),
        cmocka_unit_test(sources_are_read),
        cmocka_unit_test(other_sources_are_refused),
        cmocka_unit_test(hosts_are_judged_before_they_are_asked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
