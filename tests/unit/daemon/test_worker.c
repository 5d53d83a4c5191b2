/* SPDX-License-Identifier: Apache-2.0 */
/* Orders as they are left and read, what tasks tell, and workers that find something wrong. */
#include "daemon/worker/order.h"
#include "daemon/worker/worker.h"
#include "src/base/base.h"
#include "tests/unit/support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const models[] = {"/models", "/more"};
static const uint64_t items[] = {4, 0, 7, 2};
static const size_t counts[] = {1, 3};

static worker_order sample(void)
{
    return (worker_order){.specification = "{\"base\": \"b\"}",
                          .models = models,
                          .model_count = 2,
                          .work = "/state/jobs/x/work",
                          .memory_limit = 1 << 20,
                          .cores = 2,
                          .round = 1,
                          .row = 3,
                          .items = items,
                          .task_counts = counts,
                          .task_count = 2};
}

static void write_sample(int directory)
{
    const worker_order order = sample();
    didi_error error = {0};
    assert_int_equal(worker_order_write(directory, &order, &error), DIDI_OK);
}

static void an_order_is_read_as_it_was_written(void **state)
{
    int directory = support_directory(state);
    work_order read = {0};
    didi_error error = {0};
    write_sample(directory);
    assert_int_equal(order_read(directory, &read, &error), DIDI_OK);
    assert_string_equal(read.version, didi_version());
    assert_string_equal(read.specification, "{\"base\": \"b\"}");
    assert_string_equal(read.work, "/state/jobs/x/work");
    assert_null(read.package);
    assert_null(read.reuse);
    assert_int_equal(read.model_count, 2);
    assert_string_equal(read.models[1], "/more");
    assert_int_equal(read.cores, 2);
    assert_int_equal(read.memory_limit, 1 << 20);
    assert_true(read.place.round == 1 && read.place.row == 3);
    assert_int_equal(read.task_count, 2);
    assert_int_equal(read.first[1], 1);
    assert_int_equal(read.first[2], 4);
    assert_memory_equal(read.items, items, sizeof items);
    order_clear(&read);
}

static void an_order_of_another_row_is_told(void **state)
{
    int directory = support_directory(state);
    didi_place row = {1, 3, 0};
    didi_error error = {0};
    bool ours = false;
    worker_tasks tasks = {0};
    write_sample(directory);
    for (size_t i = 0; i < 3; i++) {
        const char *work = i == 1 ? "/elsewhere/work" : "/state/jobs/x/work";
        row.row = i == 2 ? 4 : 3;
        assert_int_equal(worker_order_tasks(directory, work, &row, &ours, &tasks, &error), DIDI_OK);
        assert_true(ours == (i == 0));
        assert_int_equal(tasks.count, 2);
        free(tasks.items);
        free(tasks.first);
    }
}

static void orders_that_mean_harm_are_refused(void **state)
{
    static const char start[] =
        "{\"format\": 1, \"version\": \"v\", \"kernel\": \"k\", \"blas\": \"b\", "
        "\"specification\": \"{}\", \"work\": \"/w\", \"memory_limit\": 0, \"round\": 0, ";
    static const char *const ends[] = {
        "",
        "\"row\": 1, \"cores\": 1, \"models\": [], \"tasks\": [[1]]}",
        "\"row\": 1, \"cores\": 1, \"models\": [1], \"tasks\": [[1]]}",
        "\"row\": 1, \"cores\": 0, \"models\": [\"/m\"], \"tasks\": [[1]]}",
        "\"row\": 1, \"cores\": 5000, \"models\": [\"/m\"], \"tasks\": [[1]]}",
        "\"row\": -1, \"cores\": 1, \"models\": [\"/m\"], \"tasks\": [[1]]}",
        "\"row\": 1, \"cores\": 1, \"models\": [\"/m\"], \"tasks\": []}",
        "\"row\": 1, \"cores\": 1, \"models\": [\"/m\"], \"tasks\": [[-1]]}",
        "\"row\": 1, \"cores\": 1, \"models\": [\"/m\"], \"tasks\": [[\"1\"]]}",
        "\"row\": 1, \"row\": 1, \"cores\": 1, \"models\": [\"/m\"], \"tasks\": [[1]]}",
        "\"row\": 1e400, \"cores\": 1, \"models\": [\"/m\"], \"tasks\": [[1]]}",
    };
    int directory = support_directory(state);
    didi_error error = {0};
    work_order read = {0};
    assert_int_equal(order_read(directory, &read, &error), DIDI_NOT_FOUND);
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        char text[1024];
        int length = snprintf(text, sizeof text, "%s%s", start, ends[i]);
        support_write(directory, "order.json", text, (size_t)length);
        assert_int_equal(order_read(directory, &read, &error), DIDI_FORMAT);
        assert_string_equal(error.subject, "order.json");
    }
    support_write(directory, "order.json", "{\"format\": 2}", 13);
    assert_int_equal(order_read(directory, &read, &error), DIDI_FORMAT);
    support_assert_contains(error.message, "not an order of this version");
}

typedef struct heard {
    worker_line lines[8];
    size_t count;
} heard;

static void hear(void *context, const worker_line *line)
{
    heard *self = context;
    assert_true(self->count < 8);
    self->lines[self->count++] = *line;
}

static void lines_of_tasks_are_read_whole_or_not_at_all(void **state)
{
    static const char text[] = "3 10 20 30 40\n"
                               "nonsense\n"
                               "5 1 2 3\n"
                               "6 1 2 3 4 5\n"
                               "\n"
                               "-7 1 2 3 4\n"
                               "8 11 21 31 41\n"
                               "9 12 22 3";
    int directory = support_directory(state);
    heard all = {.count = 0};
    didi_error error = {0};
    assert_int_equal(worker_read_done(directory, 2, hear, &all, &error), DIDI_OK);
    assert_int_equal(all.count, 0);
    support_write(directory, "task-2.done", text, sizeof text - 1);
    assert_int_equal(worker_read_done(directory, 2, hear, &all, &error), DIDI_OK);
    assert_int_equal(all.count, 2);
    assert_int_equal(all.lines[0].item, 3);
    assert_int_equal(all.lines[0].usage.peak_memory, 40);
    assert_int_equal(all.lines[1].item, 8);
    assert_int_equal(all.lines[1].usage.cpu_ns, 11);
}

static void hosts_hold_no_surprises(void **state)
{
    int directory = support_directory(state);
    char host[64];
    worker_read_host(directory, 0, host, sizeof host);
    assert_string_equal(host, "");
    support_write(directory, "task-0.host", "node-7.example", 14);
    worker_read_host(directory, 0, host, sizeof host);
    assert_string_equal(host, "node-7.example");
    support_write(directory, "task-0.host", "node\033[2Jx", 9);
    worker_read_host(directory, 0, host, sizeof host);
    assert_string_equal(host, "node");
}

static void what_is_not_shared_is_named(void **state)
{
    int directory = support_directory(state);
    char path[64];
    worker *self = NULL;
    didi_error error = {0};
    assert_int_equal(worker_open("/nowhere/at/all", &self, &error), DIDI_NOT_FOUND);
    support_assert_contains(error.message, "file system that the nodes share");
    write_sample(directory);
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", directory);
    assert_int_equal(worker_open(path, &self, &error), DIDI_NOT_FOUND);
    assert_string_equal(error.subject, "/models");
    support_assert_contains(error.message, "file system that the nodes share");
}

static void ends_have_a_status_each(void **state)
{
    (void)state;
    static const int all[] = {DIDI_OK,       DIDI_CHANGED, DIDI_NOT_FOUND, DIDI_NO_MEMORY,
                              DIDI_MISMATCH, DIDI_IO,      DIDI_CANCELLED, DIDI_DISK_FULL};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        assert_int_equal(worker_status(worker_exit_status(all[i])), all[i]);
    assert_int_equal(worker_status(139), DIDI_WORKER_LOST);
    assert_int_equal(worker_exit_status(DIDI_CONFLICT), WORKER_EXIT_INTERNAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        support_test(an_order_is_read_as_it_was_written),
        support_test(an_order_of_another_row_is_told),
        support_test(orders_that_mean_harm_are_refused),
        support_test(lines_of_tasks_are_read_whole_or_not_at_all),
        support_test(hosts_hold_no_surprises),
        support_test(what_is_not_shared_is_named),
        cmocka_unit_test(ends_have_a_status_each),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
