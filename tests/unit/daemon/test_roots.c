/* SPDX-License-Identifier: Apache-2.0 */
/* Names of models and their places: plain directories, hub caches, several roots. */
#include "daemon/models/models.h"
#include "src/files/files.h"
#include "tests/unit/support.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TENSOR "{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}"
#define CACHE "models--org--name"
#define NEWEST "1111111111111111111111111111111111111111"
#define OLDER "0000000000000000000000000000000000000000"

static void make(int directory, const char *path)
{
    char part[512];
    for (size_t i = 0; path[i] != '\0'; i++) {
        snprintf(part, sizeof part, "%.*s", (int)i, path);
        if (path[i] == '/')
            (void)mkdirat(directory, part, 0700);
    }
    (void)mkdirat(directory, path, 0700);
}

/* A directory with a model of one file. */
static void make_model(int directory, const char *path)
{
    char file[600];
    make(directory, path);
    snprintf(file, sizeof file, "%s/model.safetensors", path);
    support_write_image(directory, file, TENSOR, 4);
}

static void make_ref(int directory, const char *path, const char *commit)
{
    support_write(directory, path, commit, strlen(commit));
}

/* A revision whose only file is a link to a blob. */
static void make_revision(int directory, const char *cache, const char *commit, const char *below)
{
    char path[512];
    char up[64] = "";
    snprintf(path, sizeof path, "%s/snapshots/%s%s", cache, commit, below);
    make(directory, path);
    strncat(path, "/model.safetensors", sizeof path - strlen(path) - 1);
    for (const char *at = below; *at != '\0'; at++)
        if (*at == '/')
            strncat(up, "../", sizeof up - strlen(up) - 1);
    strncat(up, "../../blobs/blob", sizeof up - strlen(up) - 1);
    assert_int_equal(symlinkat(up, directory, path), 0);
    snprintf(path, sizeof path, "%s/blobs", cache);
    make(directory, path);
    strncat(path, "/blob", sizeof path - strlen(path) - 1);
    support_write_image(directory, path, TENSOR, 4);
    snprintf(path, sizeof path, "%s/refs", cache);
    make(directory, path);
}

static model_roots *open_roots(int directory, const char *first, const char *second)
{
    char paths[2][600];
    char parent[512];
    char magic[32];
    model_roots *roots = NULL;
    didi_error error = {0};
    snprintf(magic, sizeof magic, "/proc/self/fd/%d", directory);
    ssize_t length = readlink(magic, parent, sizeof parent - 1);
    assert_true(length > 0);
    parent[length] = '\0';
    snprintf(paths[0], sizeof paths[0], "%s/%s", parent, first);
    snprintf(paths[1], sizeof paths[1], "%s/%s", parent, second != NULL ? second : "");
    const char *const both[] = {paths[0], paths[1]};
    assert_int_equal(model_roots_open(both, second != NULL ? 2 : 1, &roots, &error), DIDI_OK);
    return roots;
}

static void check_place(const model_roots *roots, const char *name, size_t root, const char *path,
                        const char *revision)
{
    model_place place;
    didi_error error = {0};
    if (model_roots_find(roots, name, &place, &error) != DIDI_OK)
        fail_msg("%s: %s", name, error.message);
    assert_int_equal(place.root, root);
    assert_string_equal(place.path, path);
    assert_string_equal(place.revision, revision);
}

static void check_refused(const model_roots *roots, const char *name, int status, const char *part)
{
    model_place place = {.root = 77};
    int fd = -1;
    didi_error error = {0};
    assert_int_equal(model_roots_find(roots, name, &place, &error), status);
    assert_int_equal(place.root, 77);
    support_assert_contains(error.message, part);
    assert_int_equal(model_roots_open_model(roots, name, &fd, &error), status);
}

typedef struct names {
    char text[1024];
    size_t used;
} names;

static int collect(void *context, size_t root, const char *name, didi_error *error)
{
    names *self = context;
    (void)error;
    support_append(self->text, sizeof self->text, &self->used, "%zu:%s ", root, name);
    return 0;
}

/* All `count` texts are visited, and nothing else. */
static void check_walk(const model_roots *roots, const char *const *wanted, size_t count)
{
    names found = {.used = 0};
    size_t length = 0;
    didi_error error = {0};
    assert_int_equal(model_roots_walk(roots, collect, &found, &error), DIDI_OK);
    for (size_t i = 0; i < count; i++) {
        support_assert_contains(found.text, wanted[i]);
        length += strlen(wanted[i]) + 1;
    }
    if (found.used != length)
        fail_msg("visited: %s", found.text);
}

static void check_opens(const model_roots *roots, const char *name)
{
    const file_bounds links = model_roots_bounds(roots);
    didi_error error = {0};
    checkpoint *model = NULL;
    int fd = -1;
    assert_int_equal(model_roots_open_model(roots, name, &fd, &error), DIDI_OK);
    if (checkpoint_open_within(fd, &links, name, &model, &error) != DIDI_OK)
        fail_msg("%s: %s", error.subject, error.message);
    assert_int_equal(checkpoint_verify_unchanged(model, &error), DIDI_OK);
    assert_int_equal(checkpoint_file_at(model, 0)->bytes, 8 + strlen(TENSOR) + 4);
    checkpoint_close(model);
    close(fd);
}

static void a_cache_has_models_by_name_and_revision(void **state)
{
    int directory = support_directory(state);
    make_revision(directory, "root/" CACHE, NEWEST, "");
    make_revision(directory, "root/" CACHE, OLDER, "");
    make_revision(directory, "root/hub/models--gpt2", OLDER, "");
    make_ref(directory, "root/" CACHE "/refs/main", NEWEST);
    make_ref(directory, "root/" CACHE "/refs/v1", OLDER "\n");
    make(directory, "root/" CACHE "/refs/refs/pr");
    make_ref(directory, "root/" CACHE "/refs/refs/pr/1", OLDER);
    model_roots *roots = open_roots(directory, "root", NULL);
    const char *newest = CACHE "/snapshots/" NEWEST;
    const char *older = CACHE "/snapshots/" OLDER;
    check_place(roots, "org/name", 0, newest, NEWEST);
    check_place(roots, "org/name@main", 0, newest, NEWEST);
    check_place(roots, "org/name@" NEWEST, 0, newest, NEWEST);
    check_place(roots, "org/name@" OLDER, 0, older, OLDER);
    check_place(roots, "org/name@v1", 0, older, OLDER);
    check_place(roots, "org/name@refs/pr/1", 0, older, OLDER);
    check_place(roots, "hub/gpt2", 0, "hub/models--gpt2/snapshots/" OLDER, OLDER);
    check_refused(roots, "org/name@v2", DIDI_NOT_FOUND, "the revision 'v2' is not in the cache");
    check_refused(roots, "org/name/x", DIDI_NOT_FOUND, "there is no model \"org/name/x\"");
    check_refused(roots, "gpt2", DIDI_NOT_FOUND, "there is no model");
    static const char *const all[] = {"0:org/name ", ("0:org/name@" OLDER " "), "0:hub/gpt2 "};
    names found = {.used = 0};
    didi_error error = {0};
    assert_int_equal(model_roots_walk(roots, collect, &found, &error), DIDI_OK);
    for (size_t i = 0; i < 3; i++)
        support_assert_contains(found.text, all[i]);
    static const char *const opened[] = {"org/name", "org/name@v1", "hub/gpt2"};
    for (size_t i = 0; i < 3; i++)
        check_opens(roots, opened[i]);
    model_roots_close(roots);
}

static void names_are_listed_once(void **state)
{
    static const struct {
        const char *name, *listed;
    } cases[] = {{"org/name", "org/name"},
                 {"org/name@main", "org/name"},
                 {"org/name@" NEWEST, "org/name"},
                 {"org/name@old", "org/name@" OLDER},
                 {"plain", "plain"}};
    int directory = support_directory(state);
    make_revision(directory, "root/" CACHE, NEWEST, "");
    make_revision(directory, "root/" CACHE, OLDER, "");
    make_ref(directory, "root/" CACHE "/refs/main", NEWEST);
    make_ref(directory, "root/" CACHE "/refs/old", OLDER);
    make_model(directory, "root/plain");
    model_roots *roots = open_roots(directory, "root", NULL);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char listed[MODEL_PLACE_BYTES];
        didi_error error = {0};
        assert_int_equal(model_roots_list_name(roots, cases[i].name, listed, &error), DIDI_OK);
        assert_string_equal(listed, cases[i].listed);
    }
    static const char *const all[] = {"0:org/name", ("0:org/name@" OLDER), "0:plain"};
    check_walk(roots, all, 3);
    model_roots_close(roots);
}

static void directories_in_a_revision_are_models(void **state)
{
    int directory = support_directory(state);
    make_revision(directory, "root/" CACHE, NEWEST, "/unet");
    make_revision(directory, "root/" CACHE, OLDER, "/unet");
    make_ref(directory, "root/" CACHE "/refs/main", NEWEST);
    model_roots *roots = open_roots(directory, "root", NULL);
    check_place(roots, "org/name/unet", 0, CACHE "/snapshots/" NEWEST "/unet", NEWEST);
    check_opens(roots, "org/name/unet@" OLDER);
    static const char *const all[] = {"0:org/name/unet", "0:org/name/unet@" OLDER};
    check_walk(roots, all, 2);
    model_roots_close(roots);
}

static void revisions_that_cannot_be_told_are_refused(void **state)
{
    int directory = support_directory(state);
    make_revision(directory, "root/" CACHE, NEWEST, "");
    make_revision(directory, "root/" CACHE, OLDER, "");
    model_roots *roots = open_roots(directory, "root", NULL);
    check_refused(roots, "org/name", DIDI_INVALID, "2 revisions are there and no refs/main");
    static const char *const all[] = {"0:org/name", "0:org/name@" NEWEST, "0:org/name@" OLDER};
    check_walk(roots, all, 3);
    make_ref(directory, "root/" CACHE "/refs/main", "3333");
    check_refused(roots, "org/name", DIDI_NOT_FOUND, "names the revision 3333, which is not in");
    check_walk(roots, all, 3);
    make_ref(directory, "root/" CACHE "/refs/main", "../../../etc");
    check_refused(roots, "org/name", DIDI_FORMAT, "names no commit");
    make_ref(directory, "root/" CACHE "/refs/main", "");
    check_refused(roots, "org/name", DIDI_FORMAT, "names no commit");
    assert_int_equal(unlinkat(directory, "root/" CACHE "/refs/main", 0), 0);
    assert_int_equal(symlinkat("/etc/hostname", directory, "root/" CACHE "/refs/main"), 0);
    check_refused(roots, "org/name", DIDI_INVALID, "2 revisions are there and no refs/main");
    check_opens(roots, "org/name@" OLDER);
    model_roots_close(roots);
}

static void one_name_has_one_model(void **state)
{
    int directory = support_directory(state);
    make_revision(directory, "one/" CACHE, NEWEST, "");
    make_model(directory, "one/org/name");
    make_model(directory, "two/org/name");
    make(directory, "one/both");
    make_model(directory, "two/both");
    model_roots *roots = open_roots(directory, "one", "two");
    check_refused(roots, "org/name", DIDI_INVALID,
                  "two models are called \"org/name\": org/name and " CACHE "/snapshots/" NEWEST
                  " in ");
    check_place(roots, "org/name@" NEWEST, 0, CACHE "/snapshots/" NEWEST, NEWEST);
    check_place(roots, "both", 1, "both", "");
    static const char *const all[] = {"0:org/name", "1:both"};
    check_walk(roots, all, 2);
    model_roots_close(roots);
    roots = open_roots(directory, "two", "one");
    check_place(roots, "org/name", 0, "org/name", "");
    static const char *const turned[] = {"0:org/name", "0:both", ("1:org/name@" NEWEST)};
    names found = {.used = 0};
    didi_error error = {0};
    assert_int_equal(model_roots_walk(roots, collect, &found, &error), DIDI_OK);
    support_assert_contains(found.text, turned[0]);
    support_assert_contains(found.text, turned[1]);
    model_roots_close(roots);
}

static void what_is_no_repository_is_no_model(void **state)
{
    int directory = support_directory(state);
    make(directory, "root/" CACHE "/blobs");
    make(directory, "root/models--a--b--c/snapshots/" NEWEST);
    make(directory, "root/models--/snapshots");
    make(directory, "root/models--x/snapshots/" NEWEST); /* its tokenizer alone was fetched */
    model_roots *roots = open_roots(directory, "root", NULL);
    check_walk(roots, NULL, 0);
    check_refused(roots, "x", DIDI_NOT_FOUND, "there is no model");
    check_refused(roots, "a--b/c", DIDI_NOT_FOUND, "there is no model");
    model_roots_close(roots);
}

static void packages_are_no_models(void **state)
{
    int directory = support_directory(state);
    make(directory, "root/merged/experts");
    support_write_image(directory, "root/merged/shared.safetensors", TENSOR, 4);
    support_write_image(directory, "root/merged/experts/t.safetensors", TENSOR, 4);
    support_write(directory, "root/merged/manifest.json", "{}", 2);
    make_model(directory, "root/merged/models/t");
    model_roots *roots = open_roots(directory, "root", NULL);
    static const char *const all[] = {"0:merged/models/t"};
    check_walk(roots, all, 1);
    model_roots_close(roots);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        support_test(a_cache_has_models_by_name_and_revision),
        support_test(names_are_listed_once),
        support_test(directories_in_a_revision_are_models),
        support_test(revisions_that_cannot_be_told_are_refused),
        support_test(one_name_has_one_model),
        support_test(what_is_no_repository_is_no_model),
        support_test(packages_are_no_models),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
