/* SPDX-License-Identifier: Apache-2.0 */
/* The base and the added tasks against the package. */
#include "src/extension/extension_internal.h"

#include "src/base/base.h"
#include "src/package/package.h"

#include <assert.h>
#include <string.h>

static const char *base_name(const extension *self)
{
    const json_t *base = json_object_get(json_object_get(self->manifest, "inputs"), "base");
    const char *name = json_string_value(json_object_get(base, "model"));
    return name != NULL ? name : "";
}

/* ---- tensors ---- */

static bool same_shape(const json_t *shape, const safetensors_tensor *tensor)
{
    bool same = json_array_size(shape) == tensor->dimensions;
    for (size_t d = 0; same && d < tensor->dimensions; d++)
        same = (uint64_t)json_integer_value(json_array_get(shape, d)) == tensor->shape[d];
    return same;
}

static int adopt_tensor(const extension *self, const char *base, family_tensor *tensor,
                        didi_error *error)
{
    static const char *const kinds[] = {FAMILY_KIND_TABLE(TEXT_WORD)};
    const json_t *tensors = json_object_get(self->manifest, "tensors");
    const json_t *row = json_object_get(tensors, tensor->name);
    if (row == NULL)
        return didi_fail(error, DIDI_MISMATCH, base,
                         "tensor '%s' of %s is not in the package, which was made from base %s",
                         tensor->name, base, base_name(self));
    if (!same_shape(json_object_get(row, "shape"), tensor->base->tensor))
        return didi_fail(
            error, DIDI_MISMATCH, base,
            "the shape of tensor '%s' of %s is not that of the package, which was made "
            "from base %s",
            tensor->name, base, base_name(self));
    const char *kept = json_string_value(json_object_get(row, "kept"));
    size_t kind = text_find(kinds, FAMILY_KIND_COUNT, kept != NULL ? kept : "");
    if (kind == FAMILY_KIND_COUNT)
        return didi_fail(error, DIDI_FORMAT, "manifest.json",
                         "the manifest does not say how tensor '%s' is kept", tensor->name);
    tensor->kind = (family_kind)kind;
    return DIDI_OK;
}

static const json_t *base_file(const extension *self, const char *name)
{
    return manifest_file_row(manifest_file_base(self->manifest), "name", name);
}

/* What sizes alone tell, before anything is read. */
static int compare_sizes(const extension *self, const checkpoint *base, didi_error *error)
{
    const char *label = checkpoint_label(base);
    for (size_t f = 0; f < checkpoint_file_count(base); f++) {
        const checkpoint_file *file = checkpoint_file_at(base, f);
        const json_t *bytes = json_object_get(base_file(self, file->name), "bytes");
        if (json_is_integer(bytes) && (uint64_t)json_integer_value(bytes) != file->bytes)
            return didi_fail(error, DIDI_MISMATCH, label,
                             "%s/%s has %llu bytes; that of the base the package was made from, "
                             "%s, had %lld: put it back",
                             label, file->name, (unsigned long long)file->bytes, base_name(self),
                             (long long)json_integer_value(bytes));
    }
    return DIDI_OK;
}

int extension_adopt(const extension *self, const didi_merge_options *options, family *from,
                    didi_error *error)
{
    if (self == NULL)
        return DIDI_OK;
    const char *base = checkpoint_label(from->base);
    size_t count = json_object_size(json_object_get(self->manifest, "tensors"));
    int status = DIDI_OK;
    for (size_t i = 0; i < from->tensor_count && status == DIDI_OK; i++) {
        family_tensor *tensor = &from->tensors[i];
        status = adopt_tensor(self, base, tensor, error);
        if (status == DIDI_OK && tensor->kind == FAMILY_UNUSED)
            status = family_keep_own(options, from, tensor, error);
    }
    family_count_parameters(from);
    if (status == DIDI_OK)
        status = compare_sizes(self, from->base, error);
    if (status == DIDI_OK && count != from->tensor_count)
        status = didi_fail(error, DIDI_MISMATCH, base,
                           "%s has %zu tensors, the package %zu; it was made from base %s", base,
                           from->tensor_count, count, base_name(self));
    return status;
}

int extension_verify_base(const extension *self, const checkpoint *base, size_t file,
                          const char *sha256, didi_error *error)
{
    assert(file < checkpoint_file_count(base) && sha256 != NULL);
    if (self == NULL)
        return DIDI_OK;
    const char *name = checkpoint_file_at(base, file)->name;
    const char *wanted = json_string_value(json_object_get(base_file(self, name), "sha256"));
    if (wanted != NULL && strcmp(wanted, sha256) == 0)
        return DIDI_OK;
    return didi_fail(error, DIDI_MISMATCH, checkpoint_label(base),
                     "%s/%s (SHA-256 %.16s...) is not the base file the package was made from: "
                     "that was %s/%s, SHA-256 %.16s...: put it back",
                     checkpoint_label(base), name, sha256, base_name(self),
                     wanted != NULL ? name : "(no file of this name)",
                     wanted != NULL ? wanted : "none");
}

int extension_shared(const extension *self, const family_tensor *tensor, addition *ret_shared,
                     didi_error *error)
{
    assert(tensor->rows > 0 && tensor->columns > 0);
    addition shared = {0};
    int status = self != NULL ? package_file_read(self->shared, tensor->name, tensor->rows,
                                                  tensor->columns, &shared, error)
                              : DIDI_OK;
    if (status == DIDI_OK)
        status = addition_unpack(&shared, error);
    if (status != DIDI_OK)
        addition_clear(&shared);
    else
        *ret_shared = shared;
    return status;
}

bool extension_shares(const extension *self, const family_tensor *tensor)
{
    assert(tensor->rows > 0 && tensor->columns > 0);
    addition_form form = {0};
    return self != NULL &&
           package_file_form(self->shared, tensor->name, tensor->rows, tensor->columns, &form,
                             NULL) == DIDI_OK &&
           (form.rank > 0 || form.delta);
}
