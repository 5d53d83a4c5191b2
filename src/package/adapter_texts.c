/* SPDX-License-Identifier: Apache-2.0 */
/* adapter_config.json, README.md and export.json of an adapter: no dates, so that the same package
 * gives the same bytes. */
#include "src/package/adapter.h"

#include "src/base/base.h"
#include "src/package/model_card.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { README_ROWS_MAX = 20 };

/* What --max-lora-rank of vLLM may be. */
static const uint64_t vllm_ranks[] = {1, 8, 16, 32, 64, 128, 256, 320, 512};

static uint64_t vllm_rank(uint64_t rank)
{
    for (size_t i = 0; i < sizeof vllm_ranks / sizeof *vllm_ranks; i++)
        if (rank <= vllm_ranks[i])
            return vllm_ranks[i];
    return 0;
}

static double share(double part, double whole)
{
    return whole > 0 ? part / whole : 0;
}

static double whole_energy(const adapter_plan *plan)
{
    double sum = 0;
    for (size_t i = 0; i < plan->count; i++)
        sum += plan->tensors[i].energy;
    return sum;
}

static const adapter_tensor *worst_module(const adapter_plan *plan)
{
    const adapter_tensor *worst = NULL;
    for (size_t i = 0; i < plan->count; i++) {
        const adapter_tensor *row = &plan->tensors[i];
        if (row->role == ADAPTER_LORA && row->rank > 0 &&
            (worst == NULL || share(row->error, row->energy) > share(worst->error, worst->energy)))
            worst = row;
    }
    return worst;
}

didi_adapter_report adapter_report(const adapter_plan *plan)
{
    const adapter_tensor *worst = worst_module(plan);
    double whole = whole_energy(plan);
    didi_adapter_report self = {.rank = plan->rank};
    assert(worst != NULL);
    for (size_t i = 0; i < plan->count; i++) {
        const adapter_tensor *row = &plan->tensors[i];
        self.modules += row->role == ADAPTER_LORA;
        self.left_out += row->role == ADAPTER_LEFT_OUT;
        if (row->role == ADAPTER_LORA)
            self.error += share(row->error, whole);
        if (row->role == ADAPTER_LEFT_OUT)
            self.lost += share(row->energy, whole);
    }
    self.worst_error = share(worst->error, worst->energy);
    return self;
}

/* The text of a document, which is released; NULL when its making failed. */
static char *text_of(json_t *document, int failed)
{
    char *text =
        document != NULL && failed == 0
            ? json_dumps(document, JSON_INDENT(2) | JSON_SORT_KEYS | JSON_REAL_PRECISION(9))
            : NULL;
    char *line = text != NULL ? memory_format("%s\n", text) : NULL;
    free(text);
    json_decref(document);
    return line;
}

/* ---- adapter_config.json */

static bool is_weight(const adapter_tensor *row)
{
    return strcmp(adapter_leaf(row->base->tensor->name), "weight") == 0;
}

/* Whether all weights of this name are Linears', and no container has it. */
static bool leaf_is_clear(const adapter_plan *plan, const char *leaf)
{
    for (size_t i = 0; i < plan->count; i++) {
        const adapter_tensor *row = &plan->tensors[i];
        const char *at = row->path;
        if (strcmp(adapter_leaf(at), leaf) == 0 && row->kind != ADAPTER_LINEAR && is_weight(row))
            return false;
        for (size_t length = strcspn(at, "."); at[length] == '.'; length = strcspn(at, ".")) {
            if (strlen(leaf) == length && strncmp(at, leaf, length) == 0)
                return false;
            at += length + 1;
        }
    }
    return true;
}

static bool list_has(const json_t *list, const char *word)
{
    for (size_t i = 0; i < json_array_size(list); i++)
        if (strcmp(json_string_value(json_array_get(list, i)), word) == 0)
            return true;
    return false;
}

static void list_add(json_t *list, const char *word)
{
    if (!list_has(list, word))
        json_array_append_new(list, json_string(word));
}

static json_t *target_modules(const adapter_plan *plan)
{
    json_t *list = json_array();
    for (size_t i = 0; i < plan->count; i++) {
        const adapter_tensor *row = &plan->tensors[i];
        const char *leaf = adapter_leaf(row->path);
        if (row->role == ADAPTER_LORA)
            list_add(list, !plan->options.exact && leaf_is_clear(plan, leaf) ? leaf : row->path);
    }
    return list;
}

static json_t *saved_modules(const adapter_plan *plan)
{
    json_t *list = json_array();
    for (size_t i = 0; i < plan->count; i++)
        if (plan->tensors[i].role == ADAPTER_SAVED)
            list_add(list, plan->tensors[i].path);
    for (size_t i = 0; i < task_model_count(plan->task); i++) {
        const task_tensor *own = task_model_at(plan->task, i);
        char *path = adapter_saves_own(plan, own) ? adapter_module_path(own->name) : NULL;
        if (path != NULL)
            list_add(list, path);
        free(path);
    }
    if (json_array_size(list) > 0)
        return list;
    json_decref(list);
    return json_null();
}

/* A regular expression for the end of a path, which PEFT looks for behind a dot. */
static char *pattern_of(const char *path)
{
    const char *dot = strchr(path, '.');
    assert(dot != NULL);
    char *pattern = memory_zeroed(2 * strlen(dot), 1);
    char *out = pattern;
    for (const char *at = dot + 1; pattern != NULL && *at != '\0'; at++) {
        if (strchr(".^$*+?{}[]\\|()", *at) != NULL)
            *out++ = '\\';
        *out++ = *at;
    }
    return pattern;
}

static json_t *rank_pattern(const adapter_plan *plan)
{
    json_t *patterns = json_object();
    for (size_t i = 0; i < plan->count; i++) {
        const adapter_tensor *row = &plan->tensors[i];
        if (row->role != ADAPTER_LORA || row->padded == plan->rank)
            continue;
        char *pattern = pattern_of(row->path);
        int failed = pattern == NULL;
        failed |= json_object_set_new(patterns, pattern, json_integer((json_int_t)row->padded));
        free(pattern);
        if (failed != 0) {
            json_decref(patterns);
            return NULL;
        }
    }
    return patterns;
}

static bool has_transposed(const adapter_plan *plan)
{
    for (size_t i = 0; i < plan->count; i++) {
        const adapter_tensor *row = &plan->tensors[i];
        if (row->role == ADAPTER_LORA && row->kind == ADAPTER_LINEAR && row->transposed)
            return true;
    }
    return false;
}

char *adapter_config_text(const adapter_plan *plan)
{
    json_int_t rank = (json_int_t)plan->rank;
    json_t *config = json_pack(
        "{s:s,s:n,s:s,s:n,s:s,s:b,s:b,s:b,s:n,s:n,s:I,s:f,s:I,s:b,s:b}", "peft_type", "LORA",
        "task_type", "base_model_name_or_path", plan->wanted->base_label, "revision", "bias",
        "none", "fan_in_fan_out", has_transposed(plan), "inference_mode", 1, "init_lora_weights", 1,
        "layers_pattern", "layers_to_transform", "lora_alpha", rank, "lora_dropout", 0.0, "r", rank,
        "use_dora", 0, "use_rslora", 0);
    int failed = json_object_set_new(config, "modules_to_save", saved_modules(plan));
    failed |= json_object_set_new(config, "target_modules", target_modules(plan));
    failed |= json_object_set_new(config, "rank_pattern", rank_pattern(plan));
    failed |= json_object_set_new(config, "alpha_pattern", rank_pattern(plan));
    return text_of(config, failed);
}

/* ---- export.json */

static json_t *module_rows(const adapter_plan *plan)
{
    json_t *rows = json_array();
    for (size_t i = 0; i < plan->count; i++) {
        const adapter_tensor *row = &plan->tensors[i];
        if (row->role == ADAPTER_LORA)
            json_array_append_new(
                rows,
                json_pack("{s:s,s:I,s:I,s:I,s:I,s:b,s:f}", "module", row->path, "rank",
                          (json_int_t)row->rank, "padded", (json_int_t)row->padded, "shared",
                          (json_int_t)row->shared_rank, "expert", (json_int_t)row->expert_rank,
                          "delta", (int)row->delta, "error", share(row->error, row->energy)));
    }
    return rows;
}

static json_t *tensor_rows(const adapter_plan *plan, adapter_role role)
{
    double whole = whole_energy(plan);
    json_t *rows = json_array();
    for (size_t i = 0; i < plan->count; i++) {
        const adapter_tensor *row = &plan->tensors[i];
        if (row->role != role)
            continue;
        json_t *told = json_pack("{s:s,s:f}", "tensor", row->base->tensor->name, "share",
                                 share(row->energy, whole));
        if (role == ADAPTER_LEFT_OUT)
            json_object_set_new(told, "reason", json_string(row->reason));
        json_array_append_new(rows, told);
    }
    return rows;
}

/* Values of the task's own: those that are saved, or those that the adapter has no place for. */
static json_t *own_rows(const adapter_plan *plan, bool saved)
{
    json_t *rows = json_array();
    for (size_t i = 0; i < task_model_count(plan->task); i++) {
        const task_tensor *tensor = task_model_at(plan->task, i);
        if (tensor->own != NULL && adapter_saves_own(plan, tensor) == saved)
            json_array_append_new(rows, json_string(tensor->name));
    }
    return rows;
}

static json_t *task_error(const adapter_plan *plan, const json_t *manifest)
{
    const json_t *errors = json_object_get(json_object_get(manifest, "error"), "per_task");
    return json_object_get(errors, plan->wanted->task);
}

static const char *word_of_format(const adapter_plan *plan)
{
    return plan->options.exact ? "peft-exact" : "peft";
}

char *adapter_report_text(const adapter_plan *plan, const json_t *manifest)
{
    const adapter_tensor *worst = worst_module(plan);
    didi_adapter_report all = adapter_report(plan);
    uint64_t server = vllm_rank(plan->rank);
    json_t *files = json_deep_copy(manifest_file_base(manifest));
    json_t *merge_error = json_copy(task_error(plan, manifest));
    json_t *report =
        json_pack("{s:s,s:s,s:s,s:s,s:I,s:I,s:f,s:f}", "format", word_of_format(plan), "task",
                  plan->wanted->task, "didid", didi_version(), "dtype",
                  didi_dtype_name(plan->dtype), "rank", (json_int_t)plan->rank, "max_rank",
                  (json_int_t)plan->options.max_rank, "error", all.error, "lost", all.lost);
    json_t *base = json_pack("{s:s,s:o}", "model", plan->wanted->base_label, "files",
                             files != NULL ? files : json_array());
    json_t *worst_row = json_pack("{s:s,s:f}", "module", worst->path, "error", all.worst_error);
    int failed = json_object_set_new(report, "base", base);
    failed |= json_object_set_new(report, "worst", worst_row);
    failed |=
        json_object_set_new(report, "merge_error", merge_error != NULL ? merge_error : json_null());
    failed |= json_object_set_new(report, "vllm_max_lora_rank",
                                  server > 0 ? json_integer((json_int_t)server) : json_null());
    failed |= json_object_set_new(report, "modules", module_rows(plan));
    failed |= json_object_set_new(report, "saved", tensor_rows(plan, ADAPTER_SAVED));
    failed |= json_object_set_new(report, "left_out", tensor_rows(plan, ADAPTER_LEFT_OUT));
    failed |= json_object_set_new(report, "own_saved", own_rows(plan, true));
    failed |= json_object_set_new(report, "own_left_out", own_rows(plan, false));
    return text_of(report, failed);
}

/* ---- README.md */

static void print_head(FILE *out, const adapter_plan *plan)
{
    const char *task = plan->wanted->task;
    const char *base = plan->wanted->base_label;
    char license[MODEL_CARD_LICENSE_BYTES];
    model_card_base_license(plan->wanted->base_fd, &plan->wanted->links, license);
    model_card_front(out, base, license, "peft");
    fprintf(
        out,
        "\n# %s\n\n"
        "A LoRA of rank %llu for %s: the task %s as a merge of fine-tunes serves it, the part\n"
        "that all tasks share and the task's own part joined. Written by didid %s, form `%s`.\n",
        task, (unsigned long long)plan->rank, base, task, didi_version(), word_of_format(plan));
}

static void print_merge(FILE *out, const adapter_plan *plan, const json_t *manifest)
{
    const json_t *tasks = json_object_get(json_object_get(manifest, "inputs"), "tasks");
    const json_t *model = json_object_get(json_object_get(tasks, plan->wanted->task), "model");
    const json_t *budget = json_object_get(manifest, "budget");
    const json_t *error = task_error(plan, manifest);
    const json_t *requested = json_object_get(budget, "requested");
    const char *unit = json_string_value(json_object_get(budget, "unit"));
    fputs("\n## The merge\n\n| | |\n|---|---|\n", out);
    if (json_is_string(model))
        fprintf(out, "| fine-tune | %s |\n", json_string_value(model));
    fprintf(out, "| tasks merged | %zu |\n", json_object_size(tasks));
    if (json_is_number(requested) && unit != NULL)
        fprintf(out, "| budget | %.6g %s |\n", json_number_value(requested),
                model_card_unit(budget));
    model_card_rows(out, manifest, plan->wanted->task);
    if (json_is_number(error))
        fprintf(out, "| relative squared error of the merge, this task | %.6g |\n",
                json_number_value(error));
    const json_t *files = manifest_file_base(manifest);
    for (size_t i = 0; i < json_array_size(files); i++) {
        const json_t *file = json_array_get(files, i);
        const char *name = json_string_value(json_object_get(file, "name"));
        const char *digest = json_string_value(json_object_get(file, "sha256"));
        if (name != NULL && digest != NULL)
            fprintf(out, "| base, %s | sha256 %s |\n", name, digest);
    }
}

static void print_adapter(FILE *out, const adapter_plan *plan)
{
    didi_adapter_report all = adapter_report(plan);
    uint64_t lowest = UINT64_MAX;
    uint64_t highest = 0;
    for (size_t i = 0; i < plan->count; i++)
        if (plan->tensors[i].role == ADAPTER_LORA) {
            lowest = smaller(lowest, plan->tensors[i].rank);
            highest = larger(highest, plan->tensors[i].rank);
        }
    fprintf(out,
            "\n## The adapter\n\n| | |\n|---|---|\n"
            "| modules | %llu |\n| ranks before padding | %llu to %llu |\n| dtype | %s |\n"
            "| squared error by rank and rounding, of the whole change | %.3g |\n"
            "| the worst module, of its own change | %.3g (%s) |\n"
            "| squared norm left out, of the whole change | %.3g |\n",
            (unsigned long long)all.modules, (unsigned long long)lowest,
            (unsigned long long)highest, didi_dtype_name(plan->dtype), all.error, all.worst_error,
            worst_module(plan)->path, all.lost);
}

static int compare_energies(const void *left, const void *right)
{
    const adapter_tensor *one = *(const adapter_tensor *const *)left;
    const adapter_tensor *other = *(const adapter_tensor *const *)right;
    if (one->energy != other->energy)
        return one->energy > other->energy ? -1 : 1;
    return strcmp(one->base->tensor->name, other->base->tensor->name);
}

/* The largest first. */
static bool print_left_out(FILE *out, const adapter_plan *plan)
{
    double whole = whole_energy(plan);
    size_t count = 0;
    const adapter_tensor **rows = memory_zeroed(plan->count, sizeof(const adapter_tensor *));
    if (rows == NULL)
        return false;
    for (size_t i = 0; i < plan->count; i++)
        if (plan->tensors[i].role == ADAPTER_LEFT_OUT)
            rows[count++] = &plan->tensors[i];
    qsort(rows, count, sizeof(const adapter_tensor *), compare_energies);
    if (count > 0)
        fputs("\n## Left out\n\n| tensor | share | why |\n|---|---|---|\n", out);
    for (size_t i = 0; i < count && i < README_ROWS_MAX; i++)
        fprintf(out, "| %s | %.3g | %s |\n", rows[i]->base->tensor->name,
                share(rows[i]->energy, whole), rows[i]->reason);
    if (count > README_ROWS_MAX)
        fprintf(out, "\nAnd %zu more: export.json lists all.\n", count - README_ROWS_MAX);
    free((void *)rows);
    return true;
}

static void print_own(FILE *out, const adapter_plan *plan)
{
    json_t *rows = own_rows(plan, false);
    if (json_array_size(rows) > 0)
        fputs("\n## Of the task alone\n\nNot in the adapter, for the base has no place for them; "
              "the whole model (`full`) has them:\n\n",
              out);
    for (size_t i = 0; i < json_array_size(rows) && i < README_ROWS_MAX; i++)
        fprintf(out, "- %s\n", json_string_value(json_array_get(rows, i)));
    json_decref(rows);
}

static void print_loading(FILE *out, const adapter_plan *plan)
{
    const char *task = plan->wanted->task;
    const char *base = plan->wanted->base_label;
    uint64_t server = vllm_rank(plan->rank);
    fprintf(out,
            "\n## Loading\n\n```python\n"
            "from peft import PeftModel\n"
            "from transformers import AutoModel  # or the class %s\n\n"
            "model = PeftModel.from_pretrained(AutoModel.from_pretrained(\"%s\"), \"%s\")\n"
            "```\n\n",
            adapter_saves_head(plan) ? "of the task, whose head is in the adapter"
                                     : "the base was saved by",
            base, task);
    if (plan->options.exact)
        fputs("Ranks differ by module (`rank_pattern`): for PEFT. Servers take the form `peft`.\n",
              out);
    else if (server > 0)
        fprintf(out,
                "```\nvllm serve %s --enable-lora --max-lora-rank %llu --lora-modules %s=%s\n"
                "```\n\nThe smallest `--max-lora-rank` that fits is %llu.\n",
                base, (unsigned long long)server, task, task, (unsigned long long)server);
    else
        fputs("No `--max-lora-rank` of vLLM is as large as this rank: export with a cap.\n", out);
}

char *adapter_readme_text(const adapter_plan *plan, const json_t *manifest)
{
    text_stream *stream = text_stream_open();
    if (stream == NULL)
        return NULL;
    FILE *out = text_stream_file(stream);
    print_head(out, plan);
    print_merge(out, plan, manifest);
    print_adapter(out, plan);
    bool whole = print_left_out(out, plan);
    print_own(out, plan);
    print_loading(out, plan);
    char *text = text_stream_close(stream, NULL);
    if (whole)
        return text;
    free(text);
    return NULL;
}
