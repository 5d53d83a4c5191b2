/* SPDX-License-Identifier: Apache-2.0 */
/* The table of metrics: counting from many threads, what it looks like, how it is bounded. */
#include "daemon/base/base.h"
#include "tests/unit/support.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { THREADS = 4, TIMES = 20000 };

static void *count(void *context)
{
    (void)context;
    for (int i = 0; i < TIMES; i++) {
        metric_add(METRIC_HTTP_REQUESTS, METRIC_LABELS("/a", i % 2 == 0 ? "GET" : "POST", "2xx"),
                   1);
        metric_observe(METRIC_STORE_COMMIT_SECONDS, NULL, 0.002);
        metric_add(METRIC_STORE_QUEUE, NULL, i % 2 == 0 ? 1 : -1);
    }
    return NULL;
}

static void nothing_is_lost_between_threads(void **state)
{
    pthread_t threads[THREADS];
    (void)state;
    for (size_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, count, NULL), 0);
    for (size_t i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal((long)metric_sum(METRIC_HTTP_REQUESTS), THREADS * TIMES);
    assert_int_equal((long)metric_sum(METRIC_STORE_QUEUE), 0);
    char *text = metrics_render();
    assert_non_null(strstr(text, "# TYPE didid_http_requests_total counter\n"));
    assert_non_null(strstr(
        text, "didid_http_requests_total{route=\"/a\",method=\"GET\",status=\"2xx\"} 40000\n"));
    assert_non_null(strstr(text, "didid_store_commit_seconds_bucket{le=\"0.001\"} 0\n"));
    assert_non_null(strstr(text, "didid_store_commit_seconds_bucket{le=\"0.0025\"} 80000\n"));
    assert_non_null(strstr(text, "didid_store_commit_seconds_bucket{le=\"+Inf\"} 80000\n"));
    assert_non_null(strstr(text, "didid_store_commit_seconds_count 80000\n"));
    free(text);
}

static void labels_are_escaped(void **state)
{
    (void)state;
    metric_set(METRIC_BUILD_INFO, METRIC_LABELS("a\"b\\c\nd\xe2\x80\xae", "", "x"), 1);
    char *text = metrics_render();
    assert_non_null(strstr(text, "version=\"a\\\"b\\\\c\\\\u{a}d\\\\u{202e}\",blas=\"\""));
    free(text);
}

static void series_are_bounded(void **state)
{
    (void)state;
    for (int i = 0; i < 2 * METRIC_SERIES_MAX; i++) {
        char word[32];
        snprintf(word, sizeof word, "w%d", i);
        metric_add(METRIC_HTTP_REFUSALS, METRIC_LABELS(word), 1);
    }
    char *text = metrics_render();
    char expected[96];
    snprintf(expected, sizeof expected, "didid_http_refusals_total{reason=\"other\"} %d\n",
             METRIC_SERIES_MAX);
    assert_non_null(strstr(text, expected));
    free(text);
}

static void nothing_that_has_not_happened_is_missing(void **state)
{
    (void)state;
    char *text = metrics_render();
    assert_non_null(strstr(text, "didid_jobs_submitted_total 0\n"));
    assert_null(strstr(text, "didid_webhook")); /* no label is known yet */
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_lost_between_threads),
        cmocka_unit_test(labels_are_escaped),
        cmocka_unit_test(series_are_bounded),
        cmocka_unit_test(nothing_that_has_not_happened_is_missing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
