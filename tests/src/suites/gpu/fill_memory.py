"""Allocates memory of a GPU until at most MIB MiB are free, prints `full`, and holds it until standard input ends.

Arguments: the index of the GPU, and MIB.
"""

import ctypes
import sys

number, leave = int(sys.argv[1]), int(sys.argv[2]) << 20
cuda = ctypes.CDLL("libcuda.so.1")


def call(name, *arguments):
    code = getattr(cuda, name)(*arguments)
    if code != 0:
        sys.exit(f"{name} failed with code {code}")


device, context = ctypes.c_int(), ctypes.c_void_p()
call("cuInit", 0)
call("cuDeviceGet", ctypes.byref(device), number)
call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
call("cuCtxSetCurrent", context)
free, total, pointer, step = ctypes.c_size_t(), ctypes.c_size_t(), ctypes.c_uint64(), 1 << 30
while step >= 2 << 20:
    call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
    fits = free.value >= leave + step
    if not fits or cuda.cuMemAlloc_v2(ctypes.byref(pointer), ctypes.c_size_t(step)) != 0:
        step //= 2
print("full", flush=True)
sys.stdin.read()
