#include "cpu/splat.h"

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#pragma GCC target("avx2,fma")
#define ESD_ISA avx2
#include "cpu/composite.inc"
#endif
