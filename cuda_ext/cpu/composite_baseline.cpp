#include "cpu/splat.h"

#define ESD_ISA baseline
#include "cpu/composite.inc"
