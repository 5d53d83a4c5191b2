/* SPDX-License-Identifier: Apache-2.0 */
/* version. Short because no other command tells what the programs themselves are. */
#include "client/commands/command.h"

#include <stddef.h>

static int run_version(const command_context *context, didi_error *error)
{
    json_t *server = NULL;
    int status = CLIENT_OK;
    if (!arguments_has(context->arguments, OPTION_CLIENT))
        status = service_get(context->service, 0, &server, error, "/v1/version");
    if (context->settings->format != OUTPUT_TABLE) {
        json_t *both = json_pack("{s:s, s:O?}", "client", DIDICTL_VERSION, "server", server);
        int printed = output_json(context->output, both, status == CLIENT_OK ? error : NULL);
        json_decref(both);
        json_decref(server);
        return status != CLIENT_OK ? status : printed;
    }
    const json_t *blas = json_object_get(server, "blas");
    client_table *table = table_create_facts();
    table_add(table, "didictl");
    table_add(table, "%s", DIDICTL_VERSION);
    if (server != NULL) {
        table_add(table, "didid");
        table_add(table, "%s (%s)", record_text(server, "version"), context->settings->host);
        table_add(table, "BLAS");
        table_add(table, "%s, %s, %s", record_text(blas, "library"), record_text(blas, "flavour"),
                  record_text(blas, "kernel"));
    }
    int printed = output_table(context->output, table, status == CLIENT_OK ? error : NULL);
    json_decref(server);
    return status != CLIENT_OK ? status : printed;
}

static const option_row version_options[] = {
    {OPTION_CLIENT, 0, "client", NULL, "do not ask the server"}};

const client_command command_version = {
    .name = "version",
    .words = "",
    .summary = "show versions of client and server",
    .options = COMMAND_OPTIONS(version_options),
    .run = run_version,
};
