/* SPDX-License-Identifier: Apache-2.0 */
/* Signatures against the examples of the S3 API reference ("Authenticating Requests"); answers in
 * XML, well-formed and hostile; credentials; URLs. */
#include "daemon/s3/answer.h"
#include "daemon/s3/client.h"
#include "daemon/s3/credentials.h"
#include "daemon/s3/sign.h"
#include "tests/unit/support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TIME "20130524T000000Z"
#define HOST "examplebucket.s3.amazonaws.com"

static const sign_key example_key = {"AKIAIOSFODNN7EXAMPLE",
                                     "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", NULL, "us-east-1"};

static void check_signed(const sign_request *request, const char *names, const char *signature)
{
    char wanted[512];
    char *value = NULL;
    didi_error error = {0};
    assert_int_equal(sign_authorization(&example_key, request, TIME, &value, &error), DIDI_OK);
    (void)snprintf(wanted, sizeof wanted,
                   "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/"
                   "aws4_request,SignedHeaders=%s,Signature=%s",
                   names, signature);
    assert_string_equal(value, wanted);
    free(value);
}

static void headers_are_signed_as_published(void **state)
{
    static const sign_header range[] = {{"range", "bytes=0-9"}};
    static const sign_header put[] = {{"date", "Fri, 24 May 2013 00:00:00 GMT"},
                                      {"x-amz-storage-class", "REDUCED_REDUNDANCY"}};
    (void)state;
    check_signed(&(sign_request){"GET", HOST, "/test.txt", "", SIGN_EMPTY_SHA256, range, 1},
                 "host;range;x-amz-content-sha256;x-amz-date",
                 "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41");
    check_signed(&(sign_request){"PUT", HOST, "/test%24file.text", "",
                                 "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072",
                                 put, 2},
                 "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
                 "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd");
    check_signed(&(sign_request){"GET", HOST, "/", "lifecycle=", SIGN_EMPTY_SHA256, NULL, 0},
                 "host;x-amz-content-sha256;x-amz-date",
                 "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543");
    check_signed(
        &(sign_request){"GET", HOST, "/", "max-keys=2&prefix=J", SIGN_EMPTY_SHA256, NULL, 0},
        "host;x-amz-content-sha256;x-amz-date",
        "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7");
}

static void a_url_is_signed_as_published(void **state)
{
    const sign_request request = {"GET", HOST, "/test.txt", "", NULL, NULL, 0};
    char *target = NULL;
    didi_error error = {0};
    (void)state;
    assert_int_equal(sign_target(&example_key, &request, TIME, 86400, &target, &error), DIDI_OK);
    assert_string_equal(
        target, "/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE"
                "%2F20130524%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z"
                "&X-Amz-Expires=86400&X-Amz-SignedHeaders=host&X-Amz-Signature="
                "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404");
    free(target);
}

static void texts_are_encoded(void **state)
{
    char time[SIGN_TIME_BYTES];
    char *path = sign_encode("/a b/+~é", true);
    char *value = sign_encode("a/b=c", false);
    (void)state;
    assert_string_equal(path, "/a%20b/%2B~%C3%A9");
    assert_string_equal(value, "a%2Fb%3Dc");
    sign_time(1369353600, time);
    assert_string_equal(time, TIME);
    free(path);
    free(value);
}

static void check_failure(const char *document, const char *code, const char *message)
{
    answer_failure found;
    answer_read_failure(document, strlen(document), &found);
    assert_string_equal(found.code, code);
    assert_string_equal(found.message, message);
}

static void failures_are_read(void **state)
{
    (void)state;
    check_failure("<?xml version=\"1.0\"?><Error><Code>SlowDown</Code><Message>Reduce &lt;your&gt; "
                  "rate</Message></Error>",
                  "SlowDown", "Reduce <your> rate");
    check_failure("<Error><Code>A</Code><Message>b\x01", "A", "");
    check_failure("<Error><Code>Half</Code><Mess", "Half", "");
    check_failure("<Other><Code>A</Code></Other>", "", "");
    check_failure("not XML", "", "");
    check_failure("", "", "");
}

static int count(void *context, const char *parent, const char *name, const char *text,
                 didi_error *error)
{
    (void)parent;
    (void)name;
    (void)text;
    (void)error;
    ++*(int *)context;
    return DIDI_OK;
}

static int read_status(const char *document)
{
    int seen = 0;
    return answer_read(document, strlen(document), count, &seen, NULL);
}

static void hostile_answers_are_refused(void **state)
{
    char text[ANSWER_TEXT_BYTES + 64] = "<a>";
    (void)state;
    assert_int_equal(read_status("<!DOCTYPE a [<!ENTITY b \"cc\">]><a>&b;</a>"), DIDI_FORMAT);
    assert_int_equal(read_status("<a><a><a><a><a><a><a><a><a>"), DIDI_FORMAT);
    assert_int_equal(read_status("<a>&undefined;</a>"), DIDI_FORMAT);
    assert_int_equal(read_status("<a><b></a></b>"), DIDI_FORMAT);
    assert_int_equal(read_status("<a><b>1</b></a>"), DIDI_OK);
    memset(text + 3, 'x', ANSWER_TEXT_BYTES);
    memcpy(text + 3 + ANSWER_TEXT_BYTES, "</a>", sizeof "</a>");
    assert_int_equal(read_status(text), DIDI_FORMAT);
}

static void credentials_are_read(void **state)
{
    credentials found = {0};
    didi_error error = {0};
    (void)state;
    assert_int_equal(credentials_parse("# of others\n[work]\naws_access_key_id=no\n[default]\n"
                                       " aws_access_key_id = AK \r\naws_secret_access_key=s/+=\n"
                                       "aws_session_token=t==\nexpiration=2026-11-27T15:04:05Z\n"
                                       "region=x\n",
                                       &found, &error),
                     DIDI_OK);
    assert_string_equal(found.id, "AK");
    assert_string_equal(found.secret, "s/+=");
    assert_string_equal(found.token, "t==");
    assert_int_equal(found.ends, 1795791845);
    assert_int_equal(credentials_parse("[default]\naws_access_key_id=AK\n", &found, &error),
                     DIDI_INVALID);
    assert_int_equal(credentials_parse("nonsense\n", &found, &error), DIDI_INVALID);
    assert_int_equal(credentials_parse("aws_access_key_id=A K\n", &found, &error), DIDI_INVALID);
    assert_int_equal(credentials_parse_instance("{}", 2, &found, &error), DIDI_FORMAT);
    assert_int_equal(credentials_time("yesterday"), 0);
}

static void urls_are_split(void **state)
{
    static const char *const bad[] = {"s3://",        "s3://ab",          "s3://A/b",
                                      "s3:///x",      "https://bucket/x", "s3://bucket/a\nb",
                                      "s3://-bucket", "s3://bu_cket"};
    char bucket[S3_BUCKET_BYTES];
    char key[S3_KEY_BYTES];
    didi_error error = {0};
    (void)state;
    assert_int_equal(s3_parse_url("s3://a.bucket-1//a/b//", "x", bucket, key, &error), DIDI_OK);
    assert_string_equal(bucket, "a.bucket-1");
    assert_string_equal(key, "a/b");
    assert_int_equal(s3_parse_url("s3://bucket", "x", bucket, key, &error), DIDI_OK);
    assert_string_equal(key, "");
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(s3_parse_url(bad[i], "x", bucket, key, &error), DIDI_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(headers_are_signed_as_published),
        cmocka_unit_test(a_url_is_signed_as_published),
        cmocka_unit_test(texts_are_encoded),
        cmocka_unit_test(failures_are_read),
        cmocka_unit_test(hostile_answers_are_refused),
        cmocka_unit_test(credentials_are_read),
        cmocka_unit_test(urls_are_split),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
