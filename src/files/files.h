/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes on disk: element types, safetensors, checkpoints, snapshots. */
#pragma once

#include "src/files/adapter.h"
#include "src/files/checkpoint.h"
#include "src/files/checkpoint_layout.h"
#include "src/files/dtype.h"
#include "src/files/gathered.h"
#include "src/files/safetensors.h"
#include "src/files/snapshot.h"
