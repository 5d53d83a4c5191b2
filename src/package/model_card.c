/* SPDX-License-Identifier: Apache-2.0 */
/* A model card in the form of the Hugging Face hub: YAML, then Markdown. */
#include "src/package/model_card.h"

#include "src/didi.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CARD_TEXT_BYTES = 512 };

const char *model_card_unit(const json_t *budget)
{
    static const char *const words[][2] = {{"bytes", "bytes"},
                                           {"bytes_ratio", "of the base's bytes"},
                                           {"max_error", "of relative error"}};
    const char *unit = json_string_value(json_object_get(budget, "unit"));
    const char *dtype = json_string_value(json_object_get(budget, "dtype"));
    for (size_t i = 0; unit != NULL && i < sizeof words / sizeof *words; i++)
        if (strcmp(unit, words[i][0]) == 0)
            return words[i][1];
    return dtype != NULL && strcmp(dtype, "auto") == 0 ? "models' bytes in 16 bits"
                                                       : "models' parameters";
}

/* Texts of a manifest go into code and tables: what would end these is left out. */
static void print_code(FILE *out, const char *text)
{
    char plain[CARD_TEXT_BYTES];
    text_copy_printable(plain, sizeof plain, text != NULL ? text : "?");
    (void)fputc('`', out);
    for (const char *c = plain; *c != '\0'; c++)
        (void)fputc(*c == '`' || *c == '|' ? '?' : *c, out);
    (void)fputc('`', out);
}

static const char *member_text(const json_t *of, const char *key)
{
    return json_string_value(json_object_get(of, key));
}

/* Of a directory in the hub's cache ("models--org--name/...") the name on the hub, else `label`. */
static void print_base_model(FILE *out, const char *label)
{
    static const char mark[] = "models--";
    char plain[CARD_TEXT_BYTES];
    text_copy_printable(plain, sizeof plain, label != NULL ? label : "?");
    const char *start = strstr(plain, mark);
    const char *name = start != NULL ? start + strlen(mark) : plain;
    size_t length = start != NULL ? strcspn(name, "/") : strlen(name);
    (void)fputc('"', out);
    for (size_t i = 0; i < length; i++) {
        bool slash = start != NULL && strncmp(name + i, "--", 2) == 0;
        char c = name[i] == '"' || name[i] == '\\' ? '?' : name[i];
        (void)fputc(slash ? '/' : c, out);
        i += slash;
    }
    (void)fputc('"', out);
}

void model_card_front(FILE *out, const char *base, const char *license, const char *library)
{
    bool adapter = strcmp(library, "peft") == 0;
    fputs("---\nbase_model: ", out);
    print_base_model(out, base);
    fprintf(out, "\nbase_model_relation: %s", adapter ? "adapter" : "merge");
    if (license[0] != '\0')
        fprintf(out, "\nlicense: %s", license);
    fprintf(out, "\nlibrary_name: %s\ntags: [%smerge, didi]\n---\n", library,
            adapter ? "lora, " : "");
}

static void print_tasks(FILE *out, const json_t *tasks)
{
    size_t i = 0;
    for (void *at = json_object_iter((json_t *)tasks); at != NULL;
         at = json_object_iter_next((json_t *)tasks, at)) {
        fputs(i++ > 0 ? ", " : "", out);
        print_code(out, json_object_iter_key(at));
    }
}

/* Of the task's own file; NULL where the manifest lists none. */
static const json_t *bytes_of_task(const json_t *manifest, const char *task)
{
    static const char folder[] = "experts/";
    const json_t *files = json_object_get(manifest, "files");
    const size_t bytes = strlen(task);
    for (size_t i = 0; i < json_array_size(files); i++) {
        const char *name = member_text(json_array_get(files, i), "name");
        if (name != NULL && strncmp(name, folder, sizeof folder - 1) == 0 &&
            strncmp(name + sizeof folder - 1, task, bytes) == 0 &&
            strcmp(name + sizeof folder - 1 + bytes, ".safetensors") == 0)
            return json_object_get(json_array_get(files, i), "bytes");
    }
    return NULL;
}

void model_card_rows(FILE *out, const json_t *manifest, const char *task)
{
    const json_t *budget = json_object_get(manifest, "budget");
    const json_t *own = bytes_of_task(manifest, task);
    const char *method = member_text(json_object_get(manifest, "specification"), "method");
    fputs("| method | ", out);
    print_code(out, method != NULL ? method : "didi");
    fprintf(out, " |\n| whole package | %lld bytes, %.4g of the base's |\n",
            (long long)json_integer_value(json_object_get(budget, "bytes")),
            json_number_value(json_object_get(budget, "bytes_ratio")));
    if (json_is_integer(own))
        fprintf(out, "| of it this task's own | %lld bytes |\n",
                (long long)json_integer_value(own));
    fprintf(out, "| format of the package | %lld |\n",
            (long long)json_integer_value(json_object_get(manifest, "format")));
}

static void print_merge(FILE *out, const json_t *manifest, const char *task)
{
    const json_t *inputs = json_object_get(manifest, "inputs");
    const json_t *budget = json_object_get(manifest, "budget");
    const json_t *asked = json_object_get(budget, "requested");
    const json_t *error = json_object_get(manifest, "error");
    const json_t *relative = json_object_get(json_object_get(error, "per_task"), task);
    fputs("| | |\n|---|---|\n| base | ", out);
    print_code(out, member_text(json_object_get(inputs, "base"), "model"));
    fputs(" |\n| merged tasks | ", out);
    print_tasks(out, json_object_get(inputs, "tasks"));
    fputs(" |\n", out);
    if (json_is_number(asked))
        fprintf(out, "| budget | %.6g %s |\n", json_number_value(asked), model_card_unit(budget));
    model_card_rows(out, manifest, task);
    if (json_is_number(relative))
        fprintf(out,
                "| error of this task | %.4g: squared, over the squared norm of what "
                "fine-tuning changed in matrices |\n",
                json_number_value(relative));
}

static void print_sources(FILE *out, const json_t *manifest, const char *task,
                          const side_files *files)
{
    const json_t *inputs = json_object_get(manifest, "inputs");
    const json_t *base = json_object_get(inputs, "base");
    const json_t *own = json_object_get(json_object_get(inputs, "tasks"), task);
    const json_t *list = json_object_get(base, "files");
    fputs("\n## Where it is from\nWeights are the base's with what the merge stores added.", out);
    fputs(files->count > 0 ? " Other files were copied:\n\n| file | of |\n|---|---|\n"
                           : " No other file lay beside the weights of either model.\n",
          out);
    for (size_t i = 0; i < files->count; i++) {
        fputs("| ", out);
        print_code(out, files->files[i].name);
        fputs(files->files[i].of_task ? " | the task's model " : " | the base ", out);
        print_code(out, member_text(files->files[i].of_task ? own : base, "model"));
        fputs(" |\n", out);
    }
    fputs("\nThe base's weights:\n\n| file | bytes | SHA-256 |\n|---|---|---|\n", out);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *file = json_array_get(list, i);
        fputs("| ", out);
        print_code(out, member_text(file, "name"));
        fprintf(out, " | %lld | ", (long long)json_integer_value(json_object_get(file, "bytes")));
        print_code(out, member_text(file, "sha256"));
        fputs(" |\n", out);
    }
}

static bool is_class_name(const char *text)
{
    bool plain = text != NULL && isalpha((unsigned char)text[0]);
    for (; plain && *text != '\0'; text++)
        plain = isalnum((unsigned char)*text) || *text == '_';
    return plain;
}

static void print_loading(FILE *out, const json_t *config)
{
    const json_t *all = json_object_get(config, "architectures");
    const char *name = json_string_value(json_array_get(all, 0));
    fputs("\n## Loading\n", out);
    if (config == NULL) {
        fputs("    tensors = safetensors.torch.load_file(\"model.safetensors\")\n", out);
        return;
    }
    if (!is_class_name(name))
        name = "AutoModel";
    fprintf(out,
            "    from transformers import %s\n"
            "    model = %s.from_pretrained(\"path of this directory\")\n",
            name, name);
}

char *model_card_text(const json_t *manifest, const char *task, const json_t *config,
                      const side_files *files, const char *license)
{
    const json_t *base = json_object_get(json_object_get(manifest, "inputs"), "base");
    text_stream *stream = text_stream_open();
    if (stream == NULL)
        return NULL;
    FILE *out = text_stream_file(stream);
    model_card_front(out, member_text(base, "model"), license, "transformers");
    fputs("# ", out);
    print_code(out, task);
    fprintf(
        out,
        "\nA whole model, rebuilt by didid %s from a merge of several fine-tunes of one base.\n\n",
        didi_version());
    print_merge(out, manifest, task);
    print_sources(out, manifest, task, files);
    print_loading(out, config);
    return text_stream_close(stream, NULL);
}
