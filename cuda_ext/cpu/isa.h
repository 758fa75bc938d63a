// Chooses the instruction set whose compilation of composite.inc is used, once at the first call.
#pragma once

#include <cstdlib>
#include <cstring>

#include "cpu/splat.h"
#include "ops.h"

namespace esd {

#define ESD_DECLARE(isa) \
  namespace isa {        \
  Compositor<float> of_float();   \
  Compositor<double> of_double(); \
  }
ESD_DECLARE(baseline)
ESD_DECLARE(avx2)
ESD_DECLARE(avx512)

// The best instruction set of this processor and build, or the one that ESD_SPLAT_ISA names.
inline int choose_isa() {
  int best = 0;
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) best = 1;
  if (best && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512bw"))
    best = 2;
#endif
  const char* names[] = {"baseline", "avx2", "avx512"};
  if (const char* asked = std::getenv("ESD_SPLAT_ISA"); asked && *asked) {
    int index = -1;
    for (int i = 0; i < 3; i++)
      if (!std::strcmp(asked, names[i])) index = i;
    if (index < 0 || index > best)
      fail("ESD_SPLAT_ISA=", asked, ": this processor and build have ", "baseline",
           best > 0 ? ", avx2" : "", best > 1 ? ", avx512" : "");
    return index;
  }
  return best;
}

template <class T>
const Compositor<T>& compositor() {
  static const Compositor<T> chosen = [] {
    const int isa = choose_isa();
    auto pick = [](auto f, auto d) {
      if constexpr (sizeof(T) == 4) return f();
      else return d();
    };
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
    if (isa == 2) return pick(avx512::of_float, avx512::of_double);
    if (isa == 1) return pick(avx2::of_float, avx2::of_double);
#endif
    return pick(baseline::of_float, baseline::of_double);
  }();
  return chosen;
}

}  // namespace esd
