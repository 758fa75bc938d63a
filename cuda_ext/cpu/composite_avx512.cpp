#include "cpu/splat.h"

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#pragma GCC target("avx512f,avx512vl,avx512dq,avx512bw,fma")
#define ESD_ISA avx512
#include "cpu/composite.inc"
#endif
