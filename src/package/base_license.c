/* SPDX-License-Identifier: Apache-2.0 */
/* The licence that a base's own card names. Short because that is one line of a file. */
#include "src/package/model_card.h"

#include <stdlib.h>
#include <string.h>

enum { BASE_CARD_BYTES_MAX = 1 << 20 };

static bool is_line(const char *at, const char *word)
{
    size_t bytes = strlen(word);
    return strncmp(at, word, bytes) == 0 && at[bytes + strspn(at + bytes, " \t\r")] == '\n';
}

/* The value of `license:` in the YAML before the text: one word, quoted or not. */
static void find_license(const char *card, char ret_license[MODEL_CARD_LICENSE_BYTES])
{
    static const char key[] = "license:";
    const char *line = is_line(card, "---") ? strchr(card, '\n') : NULL;
    for (; line != NULL && !is_line(line + 1, "---"); line = strchr(line + 1, '\n')) {
        if (strncmp(line + 1, key, sizeof key - 1) != 0)
            continue;
        const char *word = line + sizeof key;
        word += strspn(word, " \t\"'");
        size_t bytes = strspn(word, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                    "0123456789.-_+");
        const char *end = word + bytes + strspn(word + bytes, " \t\"'\r");
        if (bytes > 0 && bytes < MODEL_CARD_LICENSE_BYTES && (*end == '\n' || *end == '#')) {
            memcpy(ret_license, word, bytes);
            ret_license[bytes] = '\0';
        }
        return;
    }
}

void model_card_base_license(int base_fd, const file_bounds *links,
                             char ret_license[MODEL_CARD_LICENSE_BYTES])
{
    static const char name[] = "README.md";
    didi_error ignored = {0};
    char *text = NULL;
    size_t bytes = 0;
    int fd = -1;
    ret_license[0] = '\0';
    int status = file_open_within(base_fd, name, links, name, &fd, &ignored);
    if (status == DIDI_OK)
        status = file_read_text_fd(fd, name, BASE_CARD_BYTES_MAX, &text, &bytes, &ignored);
    if (status == DIDI_OK)
        find_license(text, ret_license);
    free(text);
    file_close(fd);
}
