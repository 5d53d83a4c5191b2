/* SPDX-License-Identifier: Apache-2.0 */
/* What unit tests share. */
#include "tests/unit/support.h"

#include "src/base/fault.h"
#include "src/base/file.h"
#include "src/didi.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct scratch {
    int fd;
    size_t descriptors; /* open before the test */
    char path[256];
} scratch;

static size_t open_descriptors(void)
{
    int fd = open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(fd >= 0);
    size_t count = support_entries(fd);
    close(fd);
    return count;
}

/* As didid does at its start; glibc gives constructors the arguments of main. */
__attribute__((constructor)) static void take_better_kernel(int count, char **arguments)
{
    const char *name = didi_blas_better_kernel();
    (void)count;
    if (name != NULL && setenv("OPENBLAS_CORETYPE", name, 1) == 0)
        (void)execv("/proc/self/exe", arguments);
}

int support_setup(void **state)
{
    scratch *self = calloc(1, sizeof(*self));
    const char *parent = getenv("TMPDIR");
    if (self == NULL)
        return -1;
    snprintf(self->path, sizeof(self->path), "%s/didid-test-XXXXXX",
             parent == NULL ? "/tmp" : parent);
    if (mkdtemp(self->path) == NULL) {
        free(self);
        return -1;
    }
    self->fd = open(self->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    self->descriptors = open_descriptors();
    *state = self;
    return 0;
}

int support_teardown(void **state)
{
    scratch *self = *state;
    (void)fault_arm(NULL);
    assert_int_equal(open_descriptors(), self->descriptors);
    close(self->fd);
    didi_error error = {0};
    int root = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int status = file_remove_tree(root, self->path + 1, &error);
    close(root);
    free(self);
    return status;
}

int support_directory(void **state)
{
    const scratch *self = *state;
    return self->fd;
}

void *support_allocate(size_t bytes)
{
    void *block = calloc(1, bytes == 0 ? 1 : bytes);
    if (block == NULL)
        abort();
    return block;
}

void support_append(char *text, size_t bytes, size_t *used, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(text + *used, bytes - *used, format, arguments);
    va_end(arguments);
    assert_true(length >= 0 && (size_t)length < bytes - *used);
    *used += (size_t)length;
}

void support_write(int directory_fd, const char *name, const void *data, size_t bytes)
{
    int fd = openat(directory_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_true(bytes == 0 || write(fd, data, bytes) == (ssize_t)bytes);
    assert_int_equal(close(fd), 0);
}

void support_write_image(int directory_fd, const char *name, const char *json, size_t data_bytes)
{
    uint64_t json_bytes = strlen(json);
    size_t bytes = 8 + (size_t)json_bytes + data_bytes;
    char *image = support_allocate(bytes);
    memcpy(image, &json_bytes, 8);
    memcpy(image + 8, json, (size_t)json_bytes);
    support_write(directory_fd, name, image, bytes);
    free(image);
}

size_t support_entries(int directory_fd)
{
    int fd = openat(directory_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *directory = fdopendir(fd);
    assert_non_null(directory);
    size_t count = 0;
    const struct dirent *entry = NULL;
    while ((entry = readdir(directory)) != NULL)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            count++;
    closedir(directory);
    return count;
}

bool support_exists(int directory_fd, const char *name)
{
    struct stat facts;
    return fstatat(directory_fd, name, &facts, AT_SYMLINK_NOFOLLOW) == 0;
}

uint64_t support_random(uint64_t *sequence)
{
    uint64_t value = *sequence += 0x9E3779B97F4A7C15u;
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9u;
    value = (value ^ value >> 27) * 0x94D049BB133111EBu;
    return value ^ value >> 31;
}

void support_assert_contains_at(const char *text, const char *part, const char *file, int line)
{
    if (strstr(text, part) != NULL)
        return;
    print_error("\"%s\" does not contain \"%s\"\n", text, part);
    _fail(file, line);
}
