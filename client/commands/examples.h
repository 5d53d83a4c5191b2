/* SPDX-License-Identifier: Apache-2.0 */
/* What help texts teach by. */
#pragma once

/* Two to four lines that a user may type, each indented and ending in \n; NULL of a command that is
 * not known. Static. */
const char *examples_of(const char *command);
