/* SPDX-License-Identifier: Apache-2.0 */
/* Tables of a report, from the job and its manifest. */
#include "daemon/report/sections.h"

#include "daemon/report/html.h"

#include <stdlib.h>
#include <string.h>

static const json_t *specification_of(const report_parts *parts)
{
    return json_object_get(parts->job, "specification");
}

static const json_t *manifest_part(const report_parts *parts, const char *key)
{
    return json_object_get(parts->manifest, key);
}

static bool is_survey(const report_parts *parts)
{
    return json_is_true(json_object_get(parts->job, "survey"));
}

/* ---- pieces ---- */

static void begin_section(FILE *out, const char *title)
{
    fprintf(out, "<section>\n<h2>%s</h2>\n", title);
}

static void end_section(FILE *out)
{
    fputs("</section>\n", out);
}

/* A section that only scripts show: without them nothing would be in it. */
static void drawing_section(FILE *out, const char *title, const char *drawing)
{
    fprintf(out, "<section hidden>\n<h2>%s</h2>\n<div data-drawing=\"%s\"></div>\n</section>\n",
            title, drawing);
}

/* `heads` are words of ours; those that begin with '#' stand over numbers. */
static void begin_table(FILE *out, const char *caption, const char *const *heads)
{
    fprintf(out,
            "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"%s\">\n<table>\n"
            "<caption>%s</caption>\n<thead><tr>",
            caption, caption);
    for (; *heads != NULL; heads++)
        fprintf(out, "<th scope=\"col\"%s>%s</th>", **heads == '#' ? " class=\"number\"" : "",
                *heads + (**heads == '#'));
    fputs("</tr></thead>\n<tbody>\n", out);
}

static void end_table(FILE *out)
{
    fputs("</tbody>\n</table>\n</div>\n", out);
}

static void begin_row(FILE *out, const char *name)
{
    fputs("<tr><th scope=\"row\">", out);
    html_text(out, name);
    fputs("</th>", out);
}

static void text_cell(FILE *out, const char *text)
{
    fputs("<td class=\"name\">", out);
    html_text(out, text);
    fputs("</td>", out);
}

static void number_cell(FILE *out, const json_t *number, int digits)
{
    fputs("<td class=\"number\">", out);
    html_number(out, number, digits);
    fputs("</td>", out);
}

static void bytes_cell(FILE *out, const json_t *bytes)
{
    fputs("<td class=\"number\">", out);
    html_bytes(out, bytes);
    fputs("</td>", out);
}

static void digest_cell(FILE *out, const char *digest)
{
    fputs("<td class=\"digest\">", out);
    html_text(out, digest);
    fputs("</td>", out);
}

static void begin_fact(FILE *out, const char *name)
{
    fprintf(out, "<div><dt>%s</dt><dd>", name);
}

static void end_fact(FILE *out)
{
    fputs("</dd></div>\n", out);
}

/* Nothing where there is no such text. */
static void text_fact(FILE *out, const char *name, const char *text)
{
    if (text == NULL || *text == '\0')
        return;
    begin_fact(out, name);
    html_text(out, text);
    end_fact(out);
}

static void number_fact(FILE *out, const char *name, const json_t *number, int digits)
{
    if (!json_is_number(number))
        return;
    begin_fact(out, name);
    html_number(out, number, digits);
    end_fact(out);
}

static void bytes_fact(FILE *out, const char *name, const json_t *bytes)
{
    if (!json_is_integer(bytes))
        return;
    begin_fact(out, name);
    html_bytes(out, bytes);
    fputs(" bytes", out);
    end_fact(out);
}

/* ---- summary ---- */

static void print_budget(FILE *out, const json_t *budget, bool in_16_bits)
{
    const char *key;
    json_t *value;
    if (json_is_number(budget)) {
        html_number(out, budget, 6);
        fputs(in_16_bits ? " models, in 16 bits" : " models", out);
    } else if (json_is_object(budget)) {
        json_object_foreach((json_t *)budget, key, value)
        {
            html_text(out, key);
            (void)fputc(' ', out);
            html_number(out, value, 12);
        }
    } else {
        html_text(out, json_string_value(budget));
    }
}

static void print_asked(FILE *out, const report_parts *parts)
{
    const json_t *wanted = specification_of(parts);
    const json_t *budget = json_object_get(wanted, "budget");
    const char *dtype = html_member(json_object_get(wanted, "output"), "dtype");
    const char *key;
    json_t *value;
    fputs("<dl class=\"facts\">\n", out);
    text_fact(out, "Base", html_member(wanted, "base"));
    text_fact(out, "Method", html_member(wanted, "method"));
    if (budget != NULL) {
        begin_fact(out, "Budget");
        print_budget(out, budget, dtype != NULL && strcmp(dtype, "auto") == 0);
        end_fact(out);
    }
    text_fact(out, "Stored as", dtype);
    text_fact(out, "Objective", html_member(wanted, "objective"));
    text_fact(out, "From", html_member(wanted, "from_job"));
    text_fact(out, "Extends", html_member(json_object_get(wanted, "extend"), "job"));
    text_fact(out, "Submitted", html_member(parts->job, "created_at"));
    text_fact(out, "Finished", html_member(parts->job, "finished_at"));
    json_object_foreach(json_object_get(parts->job, "labels"), key, value)
    {
        fputs("<div><dt>Label ", out);
        html_text(out, key);
        fputs("</dt><dd>", out);
        html_text(out, json_string_value(value));
        end_fact(out);
    }
    fputs("</dl>\n", out);
}

void section_summary(FILE *out, const report_parts *parts)
{
    const json_t *budget = manifest_part(parts, "budget");
    const json_t *tasks = json_object_get(specification_of(parts), "tasks");
    const char *name = html_member(parts->job, "name");
    const char *id = html_member(parts->job, "id");
    fputs("<header>\n<h1>", out);
    html_text(out, name != NULL && *name != '\0' ? name : id);
    fprintf(out, "</h1>\n<p class=\"quiet\">%s ",
            is_survey(parts) ? "A survey: what error to expect of which size. Job" : "Merge, job");
    html_text(out, id);
    fputs("</p>\n<dl class=\"figures\">\n", out);
    fprintf(out, "<div><dt>Tasks</dt><dd>%zu</dd></div>\n", json_array_size(tasks));
    bytes_fact(out, "Size", json_object_get(budget, "bytes"));
    number_fact(out, "Relative error, measured",
                json_object_get(manifest_part(parts, "error"), "relative"), 3);
    number_fact(out, "To one model, 16 bits", json_object_get(budget, "bytes_ratio_16bit"), 3);
    number_fact(out, "To the base's bytes", json_object_get(budget, "bytes_ratio"), 3);
    bytes_fact(out, "The base", json_object_get(budget, "model_bytes"));
    fputs("</dl>\n</header>\n", out);
    begin_section(out, "What was asked for");
    print_asked(out, parts);
    end_section(out);
}

/* ---- tasks ---- */

/* Bytes of the task's own file; NULL where it has none. */
static const json_t *bytes_of_task(const report_parts *parts, const char *task)
{
    const json_t *files = manifest_part(parts, "files");
    char *wanted = memory_format("experts/%s.safetensors", task);
    const json_t *found = NULL;
    for (size_t i = 0; wanted != NULL && found == NULL && i < json_array_size(files); i++) {
        const json_t *file = json_array_get(files, i);
        const char *name = html_member(file, "name");
        if (name != NULL && strcmp(name, wanted) == 0)
            found = json_object_get(file, "bytes");
    }
    free(wanted);
    return found;
}

void section_tasks(FILE *out, const report_parts *parts)
{
    static const char *const heads[] = {"Task",   "Fine-tune",         "#Weight",
                                        "#Error", "#Bytes of its own", NULL};
    static const char *const survey_heads[] = {"Task", "Fine-tune", "#Weight", NULL};
    const json_t *tasks = json_object_get(specification_of(parts), "tasks");
    const json_t *errors = json_object_get(manifest_part(parts, "error"), "per_task");
    bool survey = is_survey(parts);
    begin_section(out, "Tasks");
    begin_table(out,
                survey ? "What was measured"
                       : "Error, measured: squared, over the squared norm of what the fine-tune "
                         "changed",
                survey ? survey_heads : heads);
    for (size_t i = 0; i < json_array_size(tasks); i++) {
        const json_t *task = json_array_get(tasks, i);
        const char *name = html_member(task, "name");
        begin_row(out, name);
        text_cell(out, html_member(task, "model"));
        number_cell(out, json_object_get(task, "weight"), 6);
        if (!survey) {
            number_cell(out, json_object_get(errors, name), 3);
            bytes_cell(out, bytes_of_task(parts, name));
        }
        fputs("</tr>\n", out);
    }
    end_table(out);
    end_section(out);
    drawing_section(out, "Error of each task", "errors");
}

/* ---- sizes ---- */

void section_sizes(FILE *out, const report_parts *parts)
{
    static const char *const heads[] = {"Size",   "#Bytes",   "#To the base's bytes",
                                        "#Error", "Error is", NULL};
    const json_t *frontier = manifest_part(parts, "frontier");
    const json_t *marks = json_object_get(frontier, "marks");
    const json_t *chosen = json_object_get(frontier, "chosen");
    if (!json_is_object(frontier))
        return;
    begin_section(out, "Error against size");
    fputs("<div data-drawing=\"frontier\"></div>\n<p class=\"quiet\">Expected: foreseen before "
          "factors are fitted and numbers rounded.",
          out);
    if (json_is_object(chosen))
        fputs(
            " Measured: of what is stored. Both weigh layers as the merge did; the relative error "
            "at the top is measured too, and counts all alike.",
            out);
    fputs("</p>\n", out);
    begin_table(out,
                json_is_object(chosen) ? "What is expected of other sizes, and what was measured"
                                       : "What is expected of which size",
                heads);
    for (size_t i = 0; i <= json_array_size(marks); i++) {
        const json_t *row = i < json_array_size(marks) ? json_array_get(marks, i) : chosen;
        if (!json_is_object(row))
            continue;
        begin_row(out, row == chosen ? "this job" : html_member(row, "name"));
        bytes_cell(out, json_object_get(row, "bytes"));
        number_cell(out, json_object_get(row, "bytes_ratio"), 3);
        number_cell(out, json_object_get(row, "error"), 3);
        fprintf(out, "<td>%s</td></tr>\n", row == chosen ? "measured" : "expected");
    }
    end_table(out);
    end_section(out);
}

/* ---- layers ---- */

static void begin_folded(FILE *out, const char *caption)
{
    fprintf(out,
            "<details>\n<summary>As a table</summary>\n<div class=\"scroll\" tabindex=\"0\" "
            "role=\"region\" aria-label=\"%s, as a table\">\n<table class=\"ranks\">\n<thead><tr>"
            "<th scope=\"col\">%s</th>",
            caption, caption);
}

static void end_folded(FILE *out)
{
    fputs("</tbody>\n</table>\n</div>\n</details>\n", out);
}

static void head_cells(FILE *out, const json_t *names)
{
    for (size_t i = 0; i < json_array_size(names); i++) {
        fputs("<th scope=\"col\" class=\"number\">", out);
        html_text(out, json_string_value(json_array_get(names, i)));
        fputs("</th>", out);
    }
    fputs("</tr></thead>\n<tbody>\n", out);
}

static void print_similarity(FILE *out, const json_t *similarity)
{
    const json_t *tasks = json_object_get(similarity, "tasks");
    const json_t *cosine = json_object_get(similarity, "cosine");
    begin_section(out, "Similarity of tasks");
    fputs("<p class=\"quiet\">Cosines of what the fine-tunes changed.</p>\n"
          "<div data-drawing=\"similarity\"></div>\n",
          out);
    begin_folded(out, "Task");
    head_cells(out, tasks);
    for (size_t i = 0; i < json_array_size(tasks); i++) {
        const json_t *row = json_array_get(cosine, i);
        begin_row(out, json_string_value(json_array_get(tasks, i)));
        for (size_t j = 0; j < json_array_size(row); j++)
            number_cell(out, json_array_get(row, j), 3);
        fputs("</tr>\n", out);
    }
    end_folded(out);
    end_section(out);
}

static void print_ranks(FILE *out, const json_t *ranks)
{
    const json_t *layers = json_object_get(ranks, "layers");
    begin_section(out, "Ranks");
    fputs("<div data-drawing=\"ranks\"></div>\n", out);
    begin_folded(out, "Layer");
    fputs("<th scope=\"col\" class=\"number\">at most</th>"
          "<th scope=\"col\" class=\"number\">shared</th>",
          out);
    head_cells(out, json_object_get(ranks, "tasks"));
    for (size_t i = 0; i < json_array_size(layers); i++) {
        const json_t *layer = json_array_get(layers, i);
        const json_t *experts = json_object_get(layer, "experts");
        const json_t *dense = json_object_get(layer, "dense");
        begin_row(out, html_member(layer, "tensor"));
        number_cell(out, json_object_get(layer, "rank_limit"), 12);
        number_cell(out, json_object_get(layer, "shared"), 12);
        for (size_t t = 0; t < json_array_size(experts); t++)
            if (json_is_true(json_array_get(dense, t)))
                fputs("<td class=\"number\">whole</td>", out);
            else
                number_cell(out, json_array_get(experts, t), 12);
        fputs("</tr>\n", out);
    }
    end_folded(out);
    end_section(out);
    drawing_section(out, "Layers that lost most", "lost");
}

void section_layers(FILE *out, const report_parts *parts)
{
    const json_t *similarity = manifest_part(parts, "similarity");
    const json_t *ranks = manifest_part(parts, "ranks");
    if (json_array_size(json_object_get(similarity, "tasks")) > 1)
        print_similarity(out, similarity);
    if (json_array_size(json_object_get(ranks, "layers")) > 0)
        print_ranks(out, ranks);
    if (json_array_size(parts->points) > 0)
        drawing_section(out, "While it ran", "curves");
}

/* ---- files ---- */

static void print_inputs(FILE *out, const char *name, const json_t *input)
{
    const json_t *files = json_object_get(input, "files");
    for (size_t i = 0; i < json_array_size(files); i++) {
        const json_t *file = json_array_get(files, i);
        begin_row(out, name);
        text_cell(out, html_member(input, "model"));
        text_cell(out, html_member(file, "name"));
        bytes_cell(out, json_object_get(file, "bytes"));
        digest_cell(out, html_member(file, "sha256"));
        fputs("</tr>\n", out);
    }
}

void section_files(FILE *out, const report_parts *parts)
{
    static const char *const inputs_heads[] = {"Role", "Model", "File", "#Bytes", "SHA-256", NULL};
    static const char *const files_heads[] = {"File", "#Bytes", "SHA-256", NULL};
    const json_t *inputs = manifest_part(parts, "inputs");
    const json_t *files = manifest_part(parts, "files");
    const char *task;
    json_t *input;
    begin_section(out, "Input models");
    begin_table(out, "Weights that went in", inputs_heads);
    print_inputs(out, "the base", json_object_get(inputs, "base"));
    json_object_foreach(json_object_get(inputs, "tasks"), task, input)
        print_inputs(out, task, input);
    end_table(out);
    end_section(out);
    if (json_array_size(files) == 0)
        return;
    begin_section(out, "Package");
    begin_table(out, "Files that came out", files_heads);
    for (size_t i = 0; i < json_array_size(files); i++) {
        const json_t *file = json_array_get(files, i);
        begin_row(out, html_member(file, "name"));
        bytes_cell(out, json_object_get(file, "bytes"));
        digest_cell(out, html_member(file, "sha256"));
        fputs("</tr>\n", out);
    }
    end_table(out);
    end_section(out);
}

/* ---- origin ---- */

void section_origin(FILE *out, const report_parts *parts)
{
    const json_t *versions = manifest_part(parts, "versions");
    char *text = json_dumps(specification_of(parts), JSON_INDENT(2) | JSON_REAL_PRECISION(15));
    begin_section(out, "Made by");
    fputs("<dl class=\"facts\">\n", out);
    text_fact(out, "didid", html_member(versions, "didi"));
    text_fact(out, "BLAS", html_member(json_object_get(versions, "blas"), "version"));
    number_fact(out, "Format of the package", manifest_part(parts, "format"), 12);
    number_fact(out, "Seed", manifest_part(parts, "seed"), 16);
    number_fact(out, "Seconds", json_object_get(manifest_part(parts, "seconds"), "total"), 4);
    bytes_fact(out, "Memory at its most", manifest_part(parts, "peak_memory_bytes"));
    text_fact(out, "Fingerprint of the merge", html_member(parts->manifest, "fingerprint"));
    fputs("</dl>\n", out);
    end_section(out);
    begin_section(out, "Specification");
    fputs("<pre>", out);
    html_lines(out, text != NULL ? text : "out of memory");
    fputs("</pre>\n", out);
    end_section(out);
    fputs("<footer>This file asks nothing of any server. Drawings need scripts; all else is here "
          "without.</footer>\n",
          out);
    free(text);
}
