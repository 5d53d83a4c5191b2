/* SPDX-License-Identifier: Apache-2.0 */
/* `didid run`: one merge in the foreground, without server and database. */
#pragma once

/* argv[0] is "run". Returns the exit code: 0 done, 1 failed, 2 usage, 130 interrupted. */
int foreground_main(int argc, char **argv);
