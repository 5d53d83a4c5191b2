/* SPDX-License-Identifier: Apache-2.0 */
/* Dispatch: fairness, priority, memory, helpers, cancel, failure, with pretended merges. */
#include "daemon/jobs/pool.h"
#include "tests/unit/fake_merge.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { JOBS_MAX = 4 };

typedef struct job {
    didi_merge *merge;
    bool finished;
    size_t finished_after; /* items of all that had begun */
    int result;
    fake_log *log;
} job;

typedef struct bench {
    uv_loop_t loop;
    pool *pool;
    fake_log log;
    job jobs[JOBS_MAX];
    size_t count;
    uv_timer_t timer;
    void (*on_timer)(struct bench *self);
    int tasks_done;
} bench;

static void bench_open(bench *self, size_t workers, uint64_t memory)
{
    didi_error error = {0};
    memset(self, 0, sizeof *self);
    assert_int_equal(uv_loop_init(&self->loop), 0);
    assert_int_equal(pool_create(&self->loop, workers, memory, &self->pool, &error), DIDI_OK);
}

static void on_finished(void *context)
{
    job *done = context;
    didi_error error = {0};
    done->finished = true;
    done->finished_after = fake_log_count(done->log);
    done->result = didi_merge_result(done->merge, &error);
}

static job *bench_add(bench *self, const fake_merge_settings *settings, int priority)
{
    job *added = &self->jobs[self->count++];
    didi_error error = {0};
    added->log = &self->log;
    added->merge = fake_merge_create(settings, &self->log);
    assert_int_equal(pool_add(self->pool, added->merge, priority, on_finished, added, &error),
                     DIDI_OK);
    return added;
}

static void on_timer(uv_timer_t *timer)
{
    bench *self = timer->data;
    self->on_timer(self);
    uv_close((uv_handle_t *)timer, NULL);
}

static void bench_after(bench *self, uint64_t milliseconds, void (*act)(bench *self))
{
    self->on_timer = act;
    self->timer.data = self;
    uv_timer_init(&self->loop, &self->timer);
    uv_timer_start(&self->timer, on_timer, milliseconds, 0);
}

static void bench_run(bench *self)
{
    pool_pump(self->pool);
    uv_run(&self->loop, UV_RUN_DEFAULT);
    for (size_t i = 0; i < self->count; i++)
        assert_true(self->jobs[i].finished);
    assert_int_equal(pool_in_flight(self->pool), 0);
}

static void bench_close(bench *self)
{
    for (size_t i = 0; i < self->count; i++)
        didi_merge_close(self->jobs[i].merge);
    pool_free(self->pool);
    assert_int_equal(uv_loop_close(&self->loop), 0);
}

static size_t count_letter(const char *text, size_t length, char letter)
{
    size_t count = 0;
    for (size_t i = 0; i < length; i++)
        count += text[i] == letter;
    return count;
}

static void test_equal_jobs_share_the_threads(void **state)
{
    bench self;
    const fake_merge_settings a = {.name = "a", .items = 60, .microseconds = 300};
    const fake_merge_settings b = {.name = "b", .items = 60, .microseconds = 300};
    (void)state;
    for (size_t workers = 1; workers <= 2; workers++) {
        bench_open(&self, workers, UINT64_MAX);
        bench_add(&self, &a, 0);
        bench_add(&self, &b, 0);
        bench_run(&self);
        assert_int_equal(self.log.count, 120);
        assert_in_range(count_letter(self.log.order, 40, 'a'), 15, 25);
        assert_int_equal(self.log.running_peak, workers);
        bench_close(&self);
    }
}

static void test_higher_priority_goes_first(void **state)
{
    bench self;
    const fake_merge_settings low = {.name = "l", .items = 30, .microseconds = 200};
    const fake_merge_settings high = {.name = "h", .items = 30, .microseconds = 200};
    (void)state;
    bench_open(&self, 2, UINT64_MAX);
    bench_add(&self, &low, -1);
    bench_add(&self, &high, 3);
    bench_run(&self);
    assert_int_equal(count_letter(self.log.order, 30, 'h'), 30);
    assert_true(self.jobs[1].finished_after < self.jobs[0].finished_after);
    bench_close(&self);
}

static void test_idle_threads_go_to_lower_priority(void **state)
{
    bench self;
    const fake_merge_settings low = {.name = "l", .items = 20, .microseconds = 500};
    const fake_merge_settings high = {.name = "h", .items = 20, .at_once = 1, .microseconds = 500};
    (void)state;
    bench_open(&self, 2, UINT64_MAX);
    bench_add(&self, &low, 0);
    bench_add(&self, &high, 1);
    bench_run(&self);
    assert_true(count_letter(self.log.order, 20, 'l') >= 5);
    bench_close(&self);
}

static void test_memory_is_shared_and_nobody_starves(void **state)
{
    bench self;
    const fake_merge_settings small = {.name = "s", .items = 80, .memory = 40, .microseconds = 300};
    const fake_merge_settings large = {.name = "L", .items = 6, .memory = 100, .microseconds = 300};
    (void)state;
    bench_open(&self, 4, 100);
    bench_add(&self, &small, 0);
    bench_add(&self, &large, 0);
    bench_run(&self);
    assert_int_equal(self.log.memory_peak, 100);
    assert_true(self.jobs[1].finished_after < 60);
    bench_close(&self);
}

static void cancel_first(bench *self)
{
    didi_merge_cancel(self->jobs[0].merge);
    pool_pump(self->pool);
}

static void test_cancel_takes_one_item(void **state)
{
    bench self;
    const fake_merge_settings a = {.name = "a", .items = 5000, .microseconds = 1000};
    const fake_merge_settings b = {.name = "b", .items = 30, .microseconds = 300};
    (void)state;
    bench_open(&self, 2, UINT64_MAX);
    bench_add(&self, &a, 0);
    bench_add(&self, &b, 0);
    bench_after(&self, 20, cancel_first);
    bench_run(&self);
    assert_int_equal(self.jobs[0].result, DIDI_CANCELLED);
    assert_true(fake_merge_done(self.jobs[0].merge) < 100);
    assert_int_equal(self.jobs[1].result, DIDI_OK);
    bench_close(&self);
}

static void pause_all(bench *self)
{
    pool_pause(self->pool, true);
}

static void test_a_pause_lets_items_end_and_begins_none(void **state)
{
    bench self;
    const fake_merge_settings a = {
        .name = "a", .items = 5000, .microseconds = 1000, .helpers = true};
    const fake_merge_settings b = {.name = "b", .items = 200, .microseconds = 1000};
    (void)state;
    bench_open(&self, 2, UINT64_MAX);
    bench_add(&self, &a, 0);
    bench_add(&self, &b, 0);
    bench_after(&self, 20, pause_all);
    pool_pump(self.pool);
    uv_run(&self.loop, UV_RUN_DEFAULT); /* until nothing is in flight */
    const size_t begun = fake_log_count(&self.log);
    assert_true(begun > 0 && begun < 5200);
    assert_int_equal(pool_in_flight(self.pool), 0);
    assert_false(self.jobs[0].finished || self.jobs[1].finished);
    cancel_first(&self);
    assert_true(self.jobs[0].finished);
    assert_int_equal(self.jobs[0].result, DIDI_CANCELLED);
    assert_int_equal(fake_log_count(&self.log), begun);
    assert_false(self.jobs[1].finished);
    pool_pause(self.pool, false);
    bench_run(&self);
    assert_int_equal(self.jobs[1].result, DIDI_OK);
    assert_int_equal(fake_merge_done(self.jobs[1].merge), 200);
    bench_close(&self);
}

static void test_a_failure_stays_with_its_job(void **state)
{
    bench self;
    const fake_merge_settings a = {.name = "a", .items = 50, .microseconds = 200, .fails_at = 5};
    const fake_merge_settings b = {.name = "b", .items = 50, .microseconds = 200};
    (void)state;
    bench_open(&self, 2, UINT64_MAX);
    bench_add(&self, &a, 0);
    bench_add(&self, &b, 0);
    bench_run(&self);
    assert_int_equal(self.jobs[0].result, DIDI_NUMERIC);
    assert_in_range(fake_merge_done(self.jobs[0].merge), 5, 7);
    assert_int_equal(self.jobs[1].result, DIDI_OK);
    assert_int_equal(fake_merge_done(self.jobs[1].merge), 50);
    bench_close(&self);
}

static void test_idle_threads_help(void **state)
{
    bench self;
    const fake_merge_settings a = {
        .name = "a", .items = 5, .at_once = 1, .microseconds = 2000, .helpers = true};
    (void)state;
    bench_open(&self, 3, UINT64_MAX);
    bench_add(&self, &a, 0);
    bench_run(&self);
    assert_true(self.log.helpers_begun >= 2);
    assert_int_equal(self.log.running_peak, 3);
    bench_close(&self);
}

static void add_second(bench *self)
{
    static const fake_merge_settings b = {.name = "b", .items = 4, .microseconds = 200};
    bench_add(self, &b, 0);
    pool_pump(self->pool);
}

static void test_helpers_are_recalled_for_other_work(void **state)
{
    bench self;
    const fake_merge_settings a = {
        .name = "a", .items = 1, .at_once = 1, .microseconds = 300000, .helpers = true};
    (void)state;
    bench_open(&self, 2, UINT64_MAX);
    bench_add(&self, &a, 0);
    bench_after(&self, 20, add_second);
    bench_run(&self);
    assert_true(self.log.helpers_recalled > 0);
    /* The second job was over while the first one's only item still ran. */
    assert_int_equal(self.jobs[1].finished_after, 5);
    assert_int_equal(self.jobs[0].finished_after, 5);
    assert_string_equal(self.log.order, "abbbb");
    bench_close(&self);
}

static void task_run(void *context)
{
    (void)context;
}

static void task_after(void *context)
{
    bench *self = context;
    self->tasks_done++;
}

static void test_tasks_go_before_items(void **state)
{
    bench self;
    didi_error error = {0};
    const fake_merge_settings a = {.name = "a", .items = 20, .microseconds = 200};
    (void)state;
    bench_open(&self, 2, UINT64_MAX);
    bench_add(&self, &a, 0);
    for (int i = 0; i < 10; i++)
        assert_int_equal(pool_task(self.pool, task_run, task_after, &self, &error), DIDI_OK);
    assert_int_equal(pool_in_flight(self.pool), 10);
    bench_run(&self);
    assert_int_equal(self.tasks_done, 10);
    bench_close(&self);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equal_jobs_share_the_threads),
        cmocka_unit_test(test_higher_priority_goes_first),
        cmocka_unit_test(test_idle_threads_go_to_lower_priority),
        cmocka_unit_test(test_memory_is_shared_and_nobody_starves),
        cmocka_unit_test(test_cancel_takes_one_item),
        cmocka_unit_test(test_a_pause_lets_items_end_and_begins_none),
        cmocka_unit_test(test_a_failure_stays_with_its_job),
        cmocka_unit_test(test_idle_threads_help),
        cmocka_unit_test(test_helpers_are_recalled_for_other_work),
        cmocka_unit_test(test_tasks_go_before_items),
    };
    setenv("UV_THREADPOOL_SIZE", "4", 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
