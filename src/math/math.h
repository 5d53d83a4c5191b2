/* SPDX-License-Identifier: Apache-2.0 */
/* Linear algebra on plain arrays: the only door to BLAS and LAPACK. */
#pragma once

#include "src/math/fourier.h"
#include "src/math/linalg.h"
#include "src/math/polar.h"
#include "src/math/quantise.h"
#include "src/math/random.h"
#include "src/math/selection.h"
#include "src/math/spectrum.h"
#include "src/math/trellis.h"
#include "src/math/vector.h"
