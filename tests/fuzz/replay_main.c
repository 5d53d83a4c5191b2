/* SPDX-License-Identifier: Apache-2.0 */
/* Runs a fuzz target once over each file of the folders given: the corpus as an ordinary test. */
#include <dirent.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool replay_file(const char *path)
{
    bool done = false;
    uint8_t *data = NULL;
    FILE *file = fopen(path, "rbe");
    struct stat facts;
    if (file == NULL || fstat(fileno(file), &facts) != 0)
        goto out;
    /* No byte more than the input, so that a sanitizer sees a read past its end. */
    size_t size = (size_t)facts.st_size;
    data = malloc(size == 0 ? 1 : size);
    if (data == NULL || fread(data, 1, size, file) != size)
        goto out;
    done = LLVMFuzzerTestOneInput(data, size) == 0;
out:
    if (!done)
        fprintf(stderr, "%s: not replayed\n", path);
    if (file != NULL)
        fclose(file);
    free(data);
    return done;
}

static int replay_folder(const char *folder, size_t *count)
{
    struct dirent **entries = NULL;
    int found = scandir(folder, &entries, NULL, alphasort);
    int failures = found < 0;
    for (int i = 0; i < found; i++) {
        char path[4096];
        snprintf(path, sizeof(path), "%s/%s", folder, entries[i]->d_name);
        if (entries[i]->d_name[0] != '.') {
            failures += !replay_file(path);
            (*count)++;
        }
        free(entries[i]);
    }
    free(entries);
    return failures;
}

int main(int argc, char **argv)
{
    size_t count = 0;
    int failures = 0;
    for (int i = 1; i < argc; i++)
        failures += replay_folder(argv[i], &count);
    printf("%zu inputs replayed\n", count);
    return failures != 0 || count == 0;
}
