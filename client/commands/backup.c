/* SPDX-License-Identifier: Apache-2.0 */
/* backup: the server's database into a file. Short because new_file.c does it. */
#include "client/commands/new_file.h"

#include <stdio.h>

/* A copy is made before the first byte comes: that may take a while. */
enum { BACKUP_EXTRA_SECONDS = 600 };

static int run_backup(const command_context *context, didi_error *error)
{
    const char *name = arguments_word(context->arguments, 0);
    int status = new_file_fetch(context, "/v1/backup", name, BACKUP_EXTRA_SECONDS, error);
    if (status == CLIENT_OK)
        puts(name);
    return status;
}

const client_command command_backup = {
    .name = "backup",
    .words = "FILE",
    .summary = "copy the server's database into a file",
    .text = "The copy is consistent while the server works; didid restore puts it back. Results\n"
            "are not in it: copy jobs/ of the state directory afterwards.\n",
    .run = run_backup,
};
