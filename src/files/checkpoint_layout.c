/* SPDX-License-Identifier: Apache-2.0 */
/* The file of a model among those of its directory, and what to do where there is none. */
#include "src/files/checkpoint_layout.h"

#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

typedef char file_name[CHECKPOINT_FILE_NAME_BYTES];

/* The first names of a kind in the order of strcmp, so that messages do not depend on the order of
 * the directory. */
typedef struct candidates {
    size_t count;
    file_name first, second;
} candidates;

typedef struct search {
    bool has_manifest, has_config;
    candidates indexes, files, others;
} search;

static void candidates_add(candidates *self, const char *name)
{
    bool before = self->count == 0 || strcmp(name, self->first) < 0;
    if (before)
        (void)snprintf(self->second, sizeof self->second, "%s", self->first);
    if (before || self->count == 1 || strcmp(name, self->second) < 0)
        (void)snprintf(before ? self->first : self->second, sizeof self->first, "%s", name);
    self->count++;
}

/* Weights of other formats, and what training leaves beside them. */
static const char *const others[] = {"*.gguf", "*model*.bin", "*.pt",     "*.pth",
                                     "*.ckpt", "tf_model.h5", "*.msgpack"};
static const char *const leftovers[] = {"optimizer*", "scheduler*",     "rng_state*",
                                        "scaler*",    "training_args*", "adapter_*"};

static bool matches_any(const char *name, const char *const *globs, size_t count)
{
    bool any = false;
    for (size_t i = 0; i < count && !any; i++)
        any = fnmatch(globs[i], name, 0) == 0;
    return any;
}

static int search_visit(void *context, const char *name, didi_error *error)
{
    search *self = context;
    (void)error;
    if (strcmp(name, "manifest.json") == 0)
        self->has_manifest = true;
    if (strcmp(name, "config.json") == 0)
        self->has_config = true;
    if (name[0] == '.' || strlen(name) >= CHECKPOINT_FILE_NAME_BYTES ||
        matches_any(name, leftovers, sizeof leftovers / sizeof *leftovers))
        return DIDI_OK;
    if (fnmatch("*.safetensors.index.json", name, 0) == 0)
        candidates_add(&self->indexes, name);
    else if (fnmatch("*.safetensors", name, 0) == 0)
        candidates_add(&self->files, name);
    else if (matches_any(name, others, sizeof others / sizeof *others))
        candidates_add(&self->others, name);
    return DIDI_OK;
}

/* Shards a file's name says there are, as in "x-00001-of-00003.safetensors"; 1: it says nothing. */
static unsigned long shards_of(const char *name)
{
    const char *of = strstr(name, "-of-");
    return of != NULL ? strtoul(of + strlen("-of-"), NULL, 10) : 1;
}

/* The name goes into a command line. */
static const char *quotable(const char *name)
{
    static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    return strspn(name, plain) == strlen(name) ? name : "FILE";
}

static int refuse_other(const char *name, const char *label, didi_error *error)
{
    if (fnmatch("*.gguf", name, 0) == 0)
        return didi_fail(
            error, DIDI_FORMAT, label,
            "%s is a GGUF file, an export for inference and mostly quantised: merge the "
            "safetensors model that it was made from (its card calls it base_model)",
            name);
    if (strcmp(name, "tf_model.h5") == 0 || fnmatch("*.msgpack", name, 0) == 0)
        return didi_fail(error, DIDI_FORMAT, label,
                         "%s is not in safetensors; convert it here with: python3 -c \"import "
                         "transformers as t; c = t.AutoConfig.from_pretrained('.'); getattr(t, "
                         "c.architectures[0]).from_pretrained('.', from_%s=True)"
                         ".save_pretrained('.', safe_serialization=True)\"",
                         name, strcmp(name, "tf_model.h5") == 0 ? "tf" : "flax");
    /* By tensor rather than by AutoModel, which would drop heads and rename what is left. */
    return didi_fail(
        error, DIDI_FORMAT, label,
        "%s is a pickle, which can run code; convert it here with: python3 -c \"import "
        "glob, torch, safetensors.torch as s; s.save_file({k: v.clone().contiguous() "
        "for f in sorted(glob.glob('%s')) for d in [torch.load(f, "
        "map_location='cpu', weights_only=True)] for k, v in d.get('state_dict', "
        "d).items()}, 'model.safetensors', {'format': 'pt'})\"",
        name, fnmatch("pytorch_model*.bin", name, 0) == 0 ? "pytorch_model*.bin" : quotable(name));
}

static int search_judge(const search *found, const char *label, checkpoint_layout *ret_layout,
                        didi_error *error)
{
    const candidates *of = found->indexes.count > 0 ? &found->indexes : &found->files;
    if (of->count == 0)
        return found->others.count > 0
                   ? refuse_other(found->others.first, label, error)
                   : didi_fail(error, DIDI_NOT_FOUND, label, "there is no safetensors file");
    if (of == &found->files && shards_of(of->first) > 1)
        return didi_fail(error, DIDI_FORMAT, label,
                         "%s is one of %lu shards, and their index (*.safetensors.index.json) is "
                         "missing: fetch it too",
                         of->first, shards_of(of->first));
    /* A directory of many files of data is not a broken model. */
    bool meant = found->has_config || of == &found->indexes || strstr(of->first, "model") != NULL ||
                 strstr(of->second, "model") != NULL;
    if (of->count > 1)
        return didi_fail(error, meant ? DIDI_FORMAT : DIDI_NOT_FOUND, label,
                         "%s and %s could both be the model: leave one, or call it "
                         "model.safetensors%s",
                         of->first, of->second, of == &found->indexes ? ".index.json" : "");
    ret_layout->indexed = of == &found->indexes;
    (void)snprintf(ret_layout->name, sizeof ret_layout->name, "%s", of->first);
    return DIDI_OK;
}

int checkpoint_layout_find(int directory_fd, const char *label, checkpoint_layout *ret_layout,
                           didi_error *error)
{
    static const char *const standard[] = {"model.safetensors", "model.safetensors.index.json"};
    search found = {0};
    struct stat facts;
    for (size_t i = 0; i < 2; i++) {
        if (fstatat(directory_fd, standard[i], &facts, AT_SYMLINK_NOFOLLOW) == 0) {
            ret_layout->indexed = i == 1;
            (void)snprintf(ret_layout->name, sizeof ret_layout->name, "%s", standard[i]);
            return DIDI_OK;
        }
        if (errno != ENOENT)
            return didi_fail_errno(error, errno, label, "cannot look for %s", standard[i]);
    }
    int status = file_each_entry(directory_fd, search_visit, &found, error);
    if (status != DIDI_OK)
        return status;
    if (found.has_manifest && strcmp(found.files.first, "shared.safetensors") == 0)
        found.files.count = 0; /* a package */
    return search_judge(&found, label, ret_layout, error);
}
