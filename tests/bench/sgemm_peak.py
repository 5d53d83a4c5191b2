# SPDX-License-Identifier: Apache-2.0
"""What sgemm reaches here on large squares: the same OpenBLAS as didid, one thread each."""

import ctypes
import ctypes.util
import threading
import time

import numpy as np

ORDER, REPEATS, ROUNDS = 1536, 3, 3
ROW_MAJOR, PLAIN = 101, 111


def load_library():
    for name in ("libopenblas.so.0", ctypes.util.find_library("openblas")):
        try:
            library = ctypes.CDLL(name)
            library.openblas_set_num_threads(1)
            return library
        except (OSError, TypeError, AttributeError):
            continue
    raise RuntimeError("no OpenBLAS was found (libopenblas.so.0)")


def multiply(library, matrices):
    """C = A B; ctypes lets other threads run meanwhile."""
    order, one, zero = ctypes.c_int(ORDER), ctypes.c_float(1), ctypes.c_float(0)
    a, b, c = (ctypes.c_void_p(matrix.ctypes.data) for matrix in matrices)
    library.cblas_sgemm(ROW_MAJOR, PLAIN, PLAIN, order, order, order, one, a, order, b, order, zero,
                        c, order)


def measure(threads):
    """Operations a second of `threads` threads together; the best of a few rounds."""
    library = load_library()
    generator = np.random.default_rng(0)
    sets = [[generator.standard_normal((ORDER, ORDER), dtype=np.float32) for _ in range(3)]
            for _ in range(threads)]

    def work(matrices):
        for _ in range(REPEATS):
            multiply(library, matrices)

    best = 0.0
    for _ in range(ROUNDS):
        crew = [threading.Thread(target=work, args=(matrices,)) for matrices in sets]
        started = time.monotonic()
        for member in crew:
            member.start()
        for member in crew:
            member.join()
        best = max(best, 2.0 * ORDER ** 3 * REPEATS * threads / (time.monotonic() - started))
    return best
