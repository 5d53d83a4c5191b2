/* SPDX-License-Identifier: Apache-2.0 */
/* Adapters and routers: the same bytes again, bad orders, trouble; directions against LAPACK's. */
#include "src/base/fault.h"
#include "src/base/file.h"
#include "src/math/math.h"
#include "tests/unit/sample_layer.h"
#include "tests/unit/sample_stage.h"
#include "tests/unit/sample_summary.h"
#include "tests/unit/support.h"

#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void compare_directories(int one, int other)
{
    static const char *const names[] = {"adapter_model.safetensors", "adapter_config.json",
                                        "README.md", "export.json"};
    didi_error error = {0};
    for (size_t i = 0; i < 4; i++) {
        char *texts[2] = {NULL, NULL};
        size_t bytes[2] = {0, 0};
        sample_must(file_read_text(one, names[i], 1 << 20, &texts[0], &bytes[0], &error), &error);
        sample_must(file_read_text(other, names[i], 1 << 20, &texts[1], &bytes[1], &error), &error);
        assert_int_equal(bytes[0], bytes[1]);
        assert_memory_equal(texts[0], texts[1], bytes[0]);
        free(texts[0]);
        free(texts[1]);
    }
}

static void the_same_package_gives_the_same_bytes(void **state)
{
    sample_stage self;
    sample_stage_prepare(&self, support_directory(state));
    self.options.max_rank = 16;
    sample_stage_must(&self);
    int first = sample_stage_directory(self.out, "t");
    sample_stage_must(&self);
    assert_int_equal(support_entries(first), 0); /* replaced */
    close(first);
    didi_error error = {0};
    sample_must(file_rename(self.out, "t", self.root, "kept", &error), &error);
    sample_stage_must(&self);
    first = sample_stage_directory(self.root, "kept");
    int second = sample_stage_directory(self.out, "t");
    compare_directories(first, second);
    uint64_t bytes = 0;
    static const char *const names[] = {"adapter_model.safetensors", "adapter_config.json",
                                        "README.md", "export.json"};
    for (size_t i = 0; i < 4; i++) {
        char *text = NULL;
        size_t own = 0;
        sample_must(file_read_text(second, names[i], 1 << 20, &text, &own, &error), &error);
        bytes += own;
        free(text);
    }
    assert_int_equal(bytes, self.report.bytes);
    close(first);
    close(second);
    sample_stage_finish(&self);
}

static void bad_orders_are_refused(void **state)
{
    static const char *const tasks[] = {"t9", "", ".", "../t", "a/b"};
    static const sample_stage_part vector[] = {{1, "model.layers.1.norm.weight.delta", {16, 0}}};
    static const sample_stage_part misfit[] = {
        {1, "model.layers.0.q_proj.weight.expert_B", {24, 2}},
        {1, "model.layers.0.q_proj.weight.expert_A", {2, 17}}};
    sample_stage self;
    didi_error error = {0};
    sample_stage_prepare(&self, support_directory(state));
    for (size_t i = 0; i < 5; i++)
        assert_int_equal(sample_stage_task(&self, tasks[i], &error), DIDI_NOT_FOUND);
    self.options.max_rank = 8;
    assert_int_equal(sample_stage_task(&self, "t", &error), DIDI_INVALID);
    support_assert_contains(error.message, "multiples of 16");
    self.options = (didi_adapter_options){.precision = DIDI_PRECISION_INT4};
    assert_int_equal(sample_stage_task(&self, "t", &error), DIDI_INVALID);
    self.options = (didi_adapter_options){.as_packaged = true};
    sample_stage_write_base(&self, "[1]");
    assert_int_equal(sample_stage_task(&self, "t", &error), DIDI_FORMAT);
    assert_int_equal(support_entries(self.out), 0);
    sample_stage_finish(&self);
    for (size_t i = 0; i < 2; i++) {
        int root = sample_stage_directory(support_directory(state), i == 0 ? "vector" : "misfit");
        sample_stage_prepare_as(&self, root, i == 0 ? vector : misfit, i == 0 ? 1 : 2,
                                DIDI_DTYPE_F32);
        assert_int_equal(sample_stage_task(&self, "t", &error),
                         i == 0 ? DIDI_INVALID : DIDI_MISMATCH);
        assert_int_equal(support_entries(self.out), 0);
        close(root);
        sample_stage_finish(&self);
    }
}

static int always(void *context)
{
    (void)context;
    return 1;
}

static void trouble_leaves_no_half_adapter_or_router(void **state)
{
    static const char *const points[] = {"alloc", "pwrite", "fsync", "rename"};
    sample_stage self;
    didi_error error = {0};
    sample_stage_prepare(&self, support_directory(state));
    self.options.max_rank = 16;
    didi_export wanted = {.artifact_fd = self.package,
                          .base_fd = self.base,
                          .output_fd = self.out,
                          .base_label = "lab/base",
                          .task = "t",
                          .cancelled = always};
    assert_int_equal(didi_export_adapter(&wanted, &self.options, NULL, &error), DIDI_CANCELLED);
    assert_int_equal(didi_export_router(&wanted, 0, NULL, &error), DIDI_CANCELLED);
    assert_int_equal(support_entries(self.out), 0);
    for (size_t p = 0; p < 8; p++) {
        bool fired = true;
        self.routes = p >= 4;
        for (size_t nth = 1; fired; nth += 1 + nth / 50) {
            char fault[32];
            (void)snprintf(fault, sizeof fault, "%s:%zu", points[p % 4], nth);
            assert_int_equal(fault_arm(fault), 0);
            int status = sample_stage_task(&self, "t", &error);
            fired = fault_all_fired();
            assert_int_equal(fault_arm(NULL), 0);
            if (status != (!fired ? DIDI_OK : p % 4 == 0 ? DIDI_NO_MEMORY : DIDI_IO))
                fail_msg("%s: %s, %s", fault, didi_status_name(status), error.message);
            bool whole = support_exists(self.out, "t");
            assert_int_equal(support_entries(self.out), whole);
            if (whole && !self.routes) {
                sample_adapter opened = sample_adapter_open(&self);
                sample_adapter_close(&opened);
            }
            sample_must(file_remove_tree(self.out, "t", &error), &error);
        }
    }
    sample_stage_finish(&self);
}

/* Every direction is LAPACK's to the precision of bf16. */
static void check_directions(const sample_stage *self, const char *tensor, uint64_t rows,
                             uint64_t columns)
{
    const safetensors_tensor *found = NULL;
    sample_adapter opened = {.directory = sample_stage_directory(self->out, "t")};
    didi_error error = {0};
    float u[24 * 24];
    float v[24 * 24];
    float x[24 * 24];
    double sigma[24];
    char name[128];
    (void)snprintf(name, sizeof name, "%s.directions", tensor);
    opened.fd = openat(opened.directory, "router.safetensors", O_RDONLY | O_CLOEXEC);
    sample_must(safetensors_header_read(opened.fd, "router", &opened.header, &error), &error);
    float *read = sample_adapter_read(&opened, name, &found);
    double *change = sample_stage_change(self, tensor, rows, columns);
    for (uint64_t i = 0; i < rows * columns; i++)
        x[i] = (float)change[i];
    sample_must(linalg_svd(rows, columns, x, u, sigma, v, &error), &error);
    assert_int_equal(found->shape[1], columns);
    for (uint64_t k = 0; k < found->shape[0]; k++) {
        double inner = linalg_dot(read + k * columns, v + k * columns, columns);
        sample_assert_near(fabs(inner), 1, 0.01);
    }
    free(read);
    free(change);
    sample_adapter_close(&opened);
}

static void routers_hold_the_leading_directions(void **state)
{
    static const char one[] = "{\"inputs\": {\"tasks\": {\"t\": {}}}}";
    sample_stage self;
    didi_error error = {0};
    sample_stage_prepare(&self, support_directory(state));
    self.routes = true;
    sample_stage_must(&self);
    check_directions(&self, "model.layers.0.q_proj.weight", 24, 16);
    check_directions(&self, "model.layers.1.mlp.weight", 12, 16);
    support_write(self.package, "manifest.json", one, strlen(one));
    assert_int_equal(sample_stage_task(&self, "t", &error), DIDI_INVALID);
    sample_stage_finish(&self);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        support_test(the_same_package_gives_the_same_bytes),
        support_test(bad_orders_are_refused),
        support_test(trouble_leaves_no_half_adapter_or_router),
        support_test(routers_hold_the_leading_directions),
    };
    return cmocka_run_group_tests(tests, sample_use_one_thread, NULL);
}
