/* SPDX-License-Identifier: Apache-2.0 */
/* The file around the sections: head, style, data, script. */
#include "daemon/report/report.h"

#include "daemon/report/html.h"
#include "daemon/report/sections.h"
#include "proto/proto.h"
#include "report_bundle.h"

#include <stdio.h>
#include <stdlib.h>

/* In the file itself; browsers take frame-ancestors from headers alone. */
#define REPORT_POLICY                                                                              \
    "default-src 'none'; script-src " REPORT_SCRIPT_SOURCE "; style-src " REPORT_STYLE_SOURCE      \
    "; base-uri 'none'; form-action 'none'"

const char *report_policy(void)
{
    return REPORT_POLICY "; frame-ancestors 'none'";
}

static void print_head(FILE *out, const json_t *job)
{
    const char *name = html_member(job, "name");
    fputs("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
          "<meta http-equiv=\"Content-Security-Policy\" content=\"" REPORT_POLICY "\">\n"
          "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
          "<meta name=\"referrer\" content=\"no-referrer\">\n<title>",
          out);
    html_text(out, name != NULL && *name != '\0' ? name : html_member(job, "id"));
    fputs(" - report of a merge</title>\n<style>", out);
    (void)fwrite(report_style, 1, sizeof report_style, out);
    fputs("</style>\n</head>\n<body>\n<main>\n", out);
}

/* Null where the manifest has none. */
static json_t *figures_of(const json_t *manifest, const char *key)
{
    json_t *figures = json_object_get(manifest, key);
    return figures != NULL ? json_incref(figures) : json_null();
}

/* False when out of memory. */
static bool print_data(FILE *out, const report_parts *parts)
{
    json_t *data = json_pack("{s:O, s:o, s:o, s:o, s:O}", "job", parts->job, "frontier",
                             figures_of(parts->manifest, "frontier"), "similarity",
                             figures_of(parts->manifest, "similarity"), "ranks",
                             figures_of(parts->manifest, "ranks"), "points", parts->points);
    char *text = data != NULL ? document_render(data) : NULL;
    json_decref(data);
    if (text == NULL)
        return false;
    fputs("<script type=\"application/json\" id=\"data\">", out);
    html_data(out, text);
    fputs("</script>\n<script>", out);
    (void)fwrite(report_script, 1, sizeof report_script, out);
    fputs("</script>\n", out);
    free(text);
    return true;
}

char *report_html(const report_parts *parts)
{
    text_stream *stream = text_stream_open();
    if (stream == NULL)
        return NULL;
    FILE *out = text_stream_file(stream);
    print_head(out, parts->job);
    section_summary(out, parts);
    section_sizes(out, parts);
    section_tasks(out, parts);
    section_layers(out, parts);
    section_files(out, parts);
    section_origin(out, parts);
    fputs("</main>\n", out);
    bool whole = print_data(out, parts);
    fputs("</body>\n</html>\n", out);
    char *text = text_stream_close(stream, NULL);
    if (whole)
        return text;
    free(text);
    return NULL;
}
